"""The whole operator in a simulated world: virtual time, one seed, the same trace each time.

`kernel` has time and processes, `network` what lies between them; `kube` and `aws` are the servers, `replica`
is the operator as a process. `scenario` makes of a seed a `script`, from its `story` and the `failures` in
it; that is played in a `world` with `users`. `oracle` knows what was promised, `invariants` hold it against
all that happens, `settled` against what is there in the end. `run` plays a seed, `shrink` finds the minimize
script that still fails, and each of the `mutations` must be caught. The command is `python -m tests.sim`.

The operator is known here by public names only. `build` is all that it is made with, and the place where a
mutation puts its mistake; docs/reliability.md lists what of the operator is observed.
"""
