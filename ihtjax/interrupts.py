"""Ctrl-C that always works.

Python raises `KeyboardInterrupt` wherever the main thread happens to be. In a callback of the garbage collector, of
which JAX has one, it is printed and lost; inside a compiler's call it waits for minutes. So while long work runs,
Ctrl-C only sets a flag, the work looks at it where nothing is half done, and what can't look runs in another thread.
"""

import contextlib
import os
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from concurrent.futures import Future  # a third of the time that passes before `watch`, in which Ctrl-C is Python's

# What does not look at the flag for so long, in seconds, is ended where it is: every file is whole or not there.
PATIENCE = 1.0
POLL = 0.1

_asked = threading.Event()
_stopping = threading.Lock()
_last_words: Callable[[], str] = lambda: "stopped"  # noqa: E731


def check() -> None:
    """Raise `KeyboardInterrupt` if Ctrl-C was pressed."""
    if _asked.is_set():
        raise KeyboardInterrupt


def result(future: "Future") -> Any:
    """The future's result; Ctrl-C ends the wait."""
    while not future.done():
        check()
        with contextlib.suppress(TimeoutError):
            future.exception(timeout=POLL)
    check()
    return future.result()


def aside(work: Callable, *args) -> Any:
    """``work(*args)`` in a thread of its own, so that Ctrl-C need not wait for its end."""
    from concurrent.futures import Future

    future: Future = Future()

    def run():
        try:
            future.set_result(work(*args))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return result(future)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """While this lasts, Ctrl-C takes effect in `check`, `result` and `aside`; pressed again, where it happens to be.

    It changes nothing where somebody else handles Ctrl-C: another handler, the command line, or another thread.
    """
    mine = threading.current_thread() is threading.main_thread()
    if not mine or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def handle(number, frame):
        if _asked.is_set():
            signal.default_int_handler(number, frame)
        _asked.set()

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        pressed = _asked.is_set()
        _asked.clear()
    if pressed:
        raise KeyboardInterrupt


def watch() -> None:
    """From now on to the end of the process, Ctrl-C sets the flag, and soon after, or pressed again, calls `stop`.

    The thread that does so is woken by the operating system, so that it needs no help of the main one. A process that
    ignores Ctrl-C, as a shell's background jobs do, goes on ignoring it.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    reader, writer = socket.socketpair()  # Windows waits for sockets alone
    writer.setblocking(False)

    def wait_for_signal(timeout=None):
        while select.select([reader], [], [], timeout)[0]:
            if signal.SIGINT in reader.recv(1):
                return

    def run():
        wait_for_signal()
        _asked.set()
        wait_for_signal(PATIENCE)
        threading.Thread(target=stop, daemon=True).start()
        wait_for_signal()
        os._exit(130)

    threading.Thread(target=run, daemon=True).start()
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, lambda number, frame: None)


def last_words(words: Callable[[], str]) -> None:
    """What `stop` is to say, found out when it is called."""
    global _last_words
    _last_words = words


def stop() -> NoReturn:
    """End the process with exit code 130, as shells do after Ctrl-C, and say what is kept.

    Threads may still compute what nobody waits for, so there is no waiting for them.
    """
    _stopping.acquire()  # for good: the first caller ends the process
    try:
        words = _last_words()
    except Exception:
        words = "stopped"
    with contextlib.suppress(OSError):
        os.write(2, f"\nihtjax: {words}\n".encode())
    os._exit(130)
