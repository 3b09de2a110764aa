"""Which loop runs in this thread: asyncio's answer, without the system call that it costs before Python 3.12.

Python 3.11's asyncio asks for the process's number each time, for the sake of forked children: in a virtual
machine that takes longer than to read a line of a file. It keeps the running loop in an object of its own in
the thread state's dict, a new one whenever another loop begins to run. As long as that is the one that was
there when our loop began, ours is the one that runs. A forked child is told by our own handler.

Memory: the object is ours too from `remember` to `forget`, so that no other can have its address; it holds
the loop.
"""

import asyncio
import os
import sys

from cpython.object cimport PyObject


cdef extern from *:
    """
    static __thread PyObject *rl_known_holder;
    static __thread PyObject *rl_known_loop;
    """
    PyObject *rl_known_holder
    PyObject *rl_known_loop

cdef extern from "Python.h":
    PyObject *PyThreadState_GetDict()
    PyObject *PyDict_GetItem(PyObject *dictionary, PyObject *key)
    void Py_XINCREF(PyObject *object)
    void Py_CLEAR(PyObject *object)

cdef object get_running_loop = asyncio._get_running_loop
cdef bint ASKS_FOR_PROCESS = sys.version_info < (3, 12)
cdef object HOLDER_KEY = "__asyncio_running_event_loop__"


cdef object running_loop():
    """The loop, of whatever kind, or None."""
    cdef PyObject *threads_dict
    if rl_known_holder != NULL:
        threads_dict = PyThreadState_GetDict()
        if PyDict_GetItem(threads_dict, <PyObject *> HOLDER_KEY) == rl_known_holder:
            return <object> rl_known_loop
    return get_running_loop()


def remember(loop):
    """`loop` runs in this thread from now on; asyncio was told."""
    global rl_known_holder, rl_known_loop
    cdef PyObject *threads_dict = PyThreadState_GetDict()
    forget()
    if ASKS_FOR_PROCESS and threads_dict != NULL:
        rl_known_holder = PyDict_GetItem(threads_dict, <PyObject *> HOLDER_KEY)
        Py_XINCREF(rl_known_holder)
        rl_known_loop = <PyObject *> loop


def forget():
    """It runs no more, or this is a forked child."""
    Py_CLEAR(rl_known_holder)


os.register_at_fork(after_in_child=forget)
