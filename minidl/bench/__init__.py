"""Check kernels and measure how close they come to the limits of this machine: `minidl bench` in Python.

    @relu_forward.variant
    def mine(x, y): ...

    print(report.table(measure.bench([Task("relu_forward")])))

`cases` defines the inputs and reference of each kernel, `peak` measures the machine, `measure` checks and times,
`report` prints and compares, `assembly` reads the compiled code.
"""
