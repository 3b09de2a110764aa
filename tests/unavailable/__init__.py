"""What users see where io_uring is refused: the exception, its words, and the doctor's."""
