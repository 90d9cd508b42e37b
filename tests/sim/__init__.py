"""Deterministic simulation of the whole operator: virtual time, simulated servers, one seed.

The same seed gives the same trace in any process. The flow of a run:

1. `scenario` derives a `script` from the seed: the `workload` (world and users) and the `failures`.
2. `run` plays the script in a `world`, whose `users` act on the simulated servers.
3. `invariants` checks each call and each write. `final_checks` checks the state after the last failure. Both
   compare with the `oracle`.
4. If a check fails, `shrink` reduces the script to a short one that still fails.

`kernel` has the virtual clock and the processes, `network` the links between processes and servers. `kube`
and `aws` are the servers. `replica` is the operator as a process, assembled from a `build`. A mutation is a
`build` with a mistake. Each of the `mutations` must be caught.

The simulation uses only public names of the operator. docs/reliability.md lists what it observes.

The command is `python -m tests.sim`.
"""
