# Callbacks: handles, the queue of those that are ready, and the timers. See _callbacks.pyx.

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t

cdef extern from "Python.h":
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1
    object PyContext_Copy(object context)
    object PyContext_CopyCurrent()
    bint PyContext_CheckExact(object context)
    void PyObject_GC_Track(void *object)
    void PyObject_GC_UnTrack(void *object)
    bint PyObject_GC_IsTracked(object object)
    Py_ssize_t Py_REFCNT(PyObject *object)
    ctypedef int (*visitproc)(PyObject *object, void *argument) noexcept
    ctypedef int (*traverseproc)(PyObject *self, visitproc visit, void *argument) noexcept
    ctypedef struct PyTypeObject:
        traverseproc tp_traverse
        Py_ssize_t tp_weaklistoffset
    PyTypeObject *Py_TYPE(PyObject *object)

cdef extern from "ready.h" nogil:
    ctypedef enum rl_ready_kind "enum rl_ready_kind":
        RL_READY_HANDLE
        RL_READY_COMPLETION
    ctypedef struct rl_ready_entry "struct rl_ready_entry":
        void *object
        void *payload
        int64_t result
        uint32_t flags
        rl_ready_kind kind
    ctypedef struct rl_ready_queue "struct rl_ready_queue":
        rl_ready_entry *entries
        uint32_t head
        uint32_t count
        uint32_t capacity
    bint rl_ready_reserve(rl_ready_queue *queue)
    void rl_ready_push(rl_ready_queue *queue, rl_ready_entry entry)
    rl_ready_entry *rl_ready_next(rl_ready_queue *queue)
    rl_ready_entry rl_ready_pop(rl_ready_queue *queue)
    void rl_ready_free(rl_ready_queue *queue)

cdef extern from "timers.h" nogil:
    ctypedef struct rl_timer "struct rl_timer":
        void *owner
        unsigned int place
    ctypedef struct rl_timer_node "struct rl_timer_node":
        double when
        rl_timer *timer
    ctypedef struct rl_timers "struct rl_timers":
        rl_timer_node *nodes
        unsigned int count
    bint rl_timers_add(rl_timers *timers, rl_timer *timer, double when)
    void rl_timers_remove(rl_timers *timers, rl_timer *timer)
    void rl_timers_free(rl_timers *timers)


cdef class Callbacks


cdef class Handle:
    cdef public object _callback
    cdef public object _args           # a tuple, or None once cancelled
    cdef public object _context
    cdef readonly Callbacks _loop
    cdef public bint _cancelled
    cdef public object _source_traceback
    cdef public object _repr
    cdef object __weakref__


cdef class TimerHandle(Handle):
    cdef public object _when           # as it was given
    cdef rl_timer timer                # owner is self while in the heap, which holds a reference then
    cdef rl_timers *heap               # belongs to the loop, which _loop keeps alive


cdef Handle new_handle(Callbacks loop, object callback, tuple args, object context)
cdef TimerHandle new_timer(
    Callbacks loop, rl_timers *heap, object when, object callback, tuple args, object context)
cdef void trace_origin(Handle handle)
cdef int call_handle(Handle handle) except -1
cdef int report(Handle handle, object exc) except -1
cdef int run_handle(Handle handle) except -1
cdef void retire(void *handle) noexcept


cdef class Callbacks:
    cdef rl_ready_queue ready
    cdef rl_timers timers
    cdef bint asleep               # in a wait, without the GIL: other threads must wake it
    cdef public bint _stopping
    cdef public bint _closed
    cdef public bint _debug
    cdef public object _thread_id
    cdef public object _task_factory
    cdef public object _current_handle

    cdef TimerHandle add_timer(self, object when, object callback, tuple args, object context)
    cdef int64_t until_timer_ns(self) except -2
    cdef int fire_timers(self) except -1
    cdef int wake(self) except -1


# While the loop's queue or heap holds a handle, the garbage collector cannot free it and need not look at it:
# thousands of queued handles would be walked again and again. It sees those that somebody has afterwards.
cdef inline void hide_from_collector(Handle handle) noexcept:
    PyObject_GC_UnTrack(<void *> handle)

cdef inline void show_to_collector(Handle handle) noexcept:
    if Py_REFCNT(<PyObject *> handle) > 1 and not PyObject_GC_IsTracked(handle):
        PyObject_GC_Track(<void *> handle)
