"""Results as Markdown: the overview with all targets, one table for each scenario, versions and machine."""

TITLES = {"postern": "Postern", "haproxy": "HAProxy", "nginx": "nginx", "envoy": "Envoy", "relay": "HAProxy as TCP relay"}
WORDS = {
    "cpu_us": "CPU",
    "memory_mib": "memory, MiB",
    "start_seconds": "start, seconds",
    "connection_kib": "KiB an idle connection",
    "rate": "requests a second",
    "capacity": "requests a second its cores could do",
}


def title(label):
    name, _, workers = label.partition("-")
    return TITLES[name] + (f", {workers} worker" if workers else "")


def page(whole):
    machine = whole["machine"]
    groups = {}
    for result in whole["results"]:
        groups.setdefault(result["group"], []).append(result)
    parts = [
        "# The load lab's last run\n",
        f"`benches/load/run{' --quick' if whole['quick'] else ''}`, {whole['took_seconds'] / 60:.0f} minutes, on {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB, Linux {machine['kernel']}. {'; '.join(whole['versions'].values())}.\n",
        f"The proxy runs on core {machine['proxy_core']}, generator and upstream on core {machine['load_cores']}. One worker each, all of Postern's features on; figures are medians of "
        "the rounds, ratios are medians of the rounds' ratios with their range. Every answer was checked.\n",
        "## Targets\n",
        overview(whole["results"]),
    ]
    for group, results in groups.items():
        parts += [f"\n## {group}\n", *(section(result) for result in results)]
    if whole["not_measured"]:
        parts += ["\n## Not measured\n", *(f"- {what}: {reason}." for what, reason in whole["not_measured"])]
    if whole["failures"]:
        parts += ["\n## Failed\n", *(f"- {name}: {reason}" for name, reason in whole["failures"])]
    return "\n".join(parts) + "\n"


def overview(results):
    lines = ["| scenario | figure | median | range | target | |", "| --- | --- | --- | --- | --- | --- |"]
    for result in results:
        for target in result["targets"]:
            figure = f"{WORDS[target['key']]} over {title(target['peer'])}" if target["peer"] else WORDS[target["key"]]
            sign = "≥" if target["at_least"] else "≤"
            verdict = "met" if target["met"] else "**missed**"
            lines.append(f"| {result['title']} | {figure} | {number(target['median'])} | {number(target['least'])} to {number(target['most'])} | {sign} {number(target['limit'])} | {verdict} |")
    return "\n".join(lines) if len(lines) > 2 else "No scenario with a target was run."


def section(result):
    columns = columns_of(result["name"])
    lines = [f"\n### {result['title']}\n", table_head(columns)]
    for label, found in result["medians"].items():
        lines.append(f"| {title(label)} | " + " | ".join(shown(found.get(key), form) for _, key, form in columns) + " |")
    ratios = [f"{title(label)} {ratio['median']:.2f} ({ratio['least']:.2f} to {ratio['most']:.2f})" for label, ratio in result["ratios"].items()]
    lines.append(f"\nPostern's CPU over: {'; '.join(ratios)}; {len(result['rounds'])} rounds. {result['note']}".rstrip())
    return "\n".join(lines)


def columns_of(name):
    from lab.scenarios import BY_NAME

    return BY_NAME[name].kind.columns


def table_head(columns):
    headings = ["proxy", *(heading for heading, _, _ in columns)]
    return f"| {' | '.join(headings)} |\n|{' --- |' * len(headings)}"


def shown(value, form):
    if value is None:
        return "–"
    return f"{value / 1000:.2f}" if form == "ms" else format(value, form)


def number(value):
    return f"{value:.2f}" if value < 100 else f"{value:,.0f}"
