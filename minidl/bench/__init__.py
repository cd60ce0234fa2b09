"""Is a kernel right, and how near does it come to what this machine can do? `minidl bench` in Python.

    @relu_forward.variant
    def mine(x, y): ...

    print(report.table(measure.bench([Task("relu_forward")])))

`cases` says what each kernel is timed on and what it must compute, `peak` measures the machine, `measure` checks and
times, `report` prints, compares and draws, `assembly` reads what the compiler made.
"""
