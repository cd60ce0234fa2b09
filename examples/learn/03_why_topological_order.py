"""3. Why topological order: visit each number once, when all of it has arrived.

Two billion, or 2³¹ − 1. The cure is the distributive law: what
comes along several paths is added up where they meet, and goes on as one sum.
But that is right in one order only. No number may pass anything on before all
those computed from it have. Such an order of a graph is called topological.
"""


class Number:
    def __init__(self, value, made_from=()):
        self.value, self.made_from, self.grad = value, made_from, 0.0

    def __add__(self, other):
        return Number(self.value + other.value, ((self, 1.0), (other, 1.0)))

    def __mul__(self, other):
        return Number(self.value * other.value, ((self, other.value), (other, self.value)))


def every_path(root):
    """Lesson 2. Right, and hopelessly slow. Returns the number of visits, as all three do."""
    visits, todo = 0, [(root, 1.0)]
    while todo:
        number, arriving = todo.pop()
        visits += 1
        number.grad += arriving
        todo += [(x, arriving * slope) for x, slope in number.made_from]
    return visits


def as_found(root):
    """Each number once, in the order of being found. Fast, and wrong: some pass on before all has arrived."""
    root.grad, queue = 1.0, [root]
    for number in queue:
        for x, slope in number.made_from:
            x.grad += number.grad * slope
            if x not in queue:
                queue.append(x)
    return len(queue)


def when_complete(root):
    """Each number once, after all its uses. So it counts the uses first, and then ticks them off."""
    uses, found = {}, [root]
    for number in found:
        for x, _ in number.made_from:
            uses[x] = uses.get(x, 0) + 1
            if uses[x] == 1:
                found.append(x)
    root.grad, ready = 1.0, [root]
    for number in ready:
        for x, slope in number.made_from:
            x.grad += number.grad * slope
            uses[x] -= 1
            if not uses[x]:  # nothing more will come
                ready.append(x)
    return len(ready)


print(__doc__)
print("x = 2, a = x·x, c = a + x, L = a·c: so L = x⁴ + x³, and dL/dx = 4x³ + 3x² = 44.\n")
print("each number is visited       visits   dL/dc   dL/da   dL/dx")
slopes = []
for name, method in (("on every path", every_path), ("once, as found", as_found), ("once, complete", when_complete)):
    x = Number(2.0)
    a = x * x
    c = a + x
    print(f"{name:28s}{method(a * c):7d} {c.grad:7g} {a.grad:7g} {x.grad:7g}")
    slopes.append(x.grad)
late = c.grad * 2 * x.value  # along the path L → c → a → x
print(f"""
Once as found, a passed on what it had from L, before c brought it {c.grad:g} more. They
stand in dL/da, but the {c.grad:g}·{2 * x.value:g} = {late:g} that they make in x never got there. There was
no error and no warning; a net would just learn badly.
""")
assert slopes == [44, 44 - late, 44]

print("y = y + y, again and again:         visits on every path    once, complete")
for times in (5, 10, 15):
    visits = []
    for method in (every_path, when_complete):
        x = y = Number(1.0)
        for _ in range(times):
            y = y + y
        visits.append(method(y))
        assert x.grad == 2**times
    print(f"{times:6d} times: dL/dx = {x.grad:6g} {visits[0]:26d} {visits[1]:17d}")
    assert visits == [2 ** (times + 1) - 1, times + 1]

x = y = Number(1.0)
for _ in range(100_000):
    y = y + x
when_complete(y)
print(f"""
x + x + … + x, 100,000 additions deep: dL/dx = {x.grad:,.0f}, in a moment.

All three methods say x.grad += …, never =. Where paths meet, we know why. But
.grad is still there when backward is over: what if it is called once more?""")
assert x.grad == 100_001
