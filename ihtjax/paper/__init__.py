"""The paper, reproduced and judged: its figures, its claims, and the page that holds both."""
