"""The load lab: Postern side by side with the proxies that people would pick instead. `benches/load/run` is the way in.

machine -> process -> proxies/* (who is measured) + generators (what asks) -> kinds (how one measurement is taken)
-> scenarios (the table of all of them) -> measure (interleaved rounds) -> report, charts.
"""
