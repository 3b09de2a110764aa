# Handles: a callback, its arguments and the context it runs in. Loops make them, everyone may cancel them.

cdef extern from "Python.h":
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1
    object PyContext_CopyCurrent()
    bint PyContext_CheckExact(object context)
    void PyObject_GC_Track(void *object)
    void PyObject_GC_UnTrack(void *object)
    bint PyObject_GC_IsTracked(object object)
    Py_ssize_t Py_REFCNT(object object)

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


cdef class Handle:
    cdef public object _callback
    cdef public object _args           # a tuple, or None once cancelled
    cdef public object _context
    cdef public object _loop
    cdef public bint _cancelled
    cdef public object _source_traceback
    cdef public object _repr
    cdef object __weakref__


cdef class TimerHandle(Handle):
    cdef public object _when           # as it was given
    cdef rl_timer timer                # owner is self while in the heap, which holds a reference then
    cdef rl_timers *heap               # belongs to the loop, which _loop keeps alive


cdef Handle new_handle(object loop, object callback, tuple args, object context)
cdef TimerHandle new_timer(object loop, rl_timers *heap, object when, object callback, tuple args, object context)
cdef void trace_origin(Handle handle)
cdef int run_handle(Handle handle) except -1

# While the loop's queue or heap holds a handle, the garbage collector cannot free it and need not look at it:
# thousands of queued handles would be walked again and again. It sees those that somebody still has afterwards.
cdef inline void hide_from_collector(Handle handle) noexcept:
    PyObject_GC_UnTrack(<void *> handle)

cdef inline void show_to_collector(Handle handle) noexcept:
    if Py_REFCNT(handle) > 1 and not PyObject_GC_IsTracked(handle):
        PyObject_GC_Track(<void *> handle)
