"""Results as Markdown tables."""

__all__ = ["by_case", "by_peer", "memory", "milliseconds", "missing", "table"]


def table(head, rows):
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def milliseconds(timing):
    """Return the median in milliseconds and, in brackets, the quartiles."""
    first, third = timing["quartiles_ms"]
    return f"{timing['median_ms']:.3g} ({first:.3g} to {third:.3g})"


def missing(comparisons):
    """Return a line for each missing peer and reason."""
    reasons = {}
    for comparison in comparisons:
        for name, reason in comparison["missing"].items():
            reasons.setdefault((name, reason), []).append(comparison["case"])
    return "\n".join(
        f"* missing: **{name}**, {reason}" + ("" if len(cases) == len(comparisons) else f" ({'; '.join(cases)})")
        for (name, reason), cases in reasons.items()
    )


def fastest(comparison):
    """Return the fastest peer of each kind, as text."""
    return "; ".join(
        f"{best['name']} ({kind}) takes {best['ratio']:.2f} times as long"
        for kind, best in comparison["fastest"].items()
    )


def by_peer(comparison):
    """Return the table of one case with a row for each peer, the fastest first."""
    rows = [
        (
            name,
            milliseconds(timing),
            f"{timing['ratio']:.2f}" if "ratio" in timing else "",
            f"{timing['difference']:.1e}" if "ratio" in timing else "",
            f"{timing['gflops']:.0f}" if "gflops" in timing else "",
            f"{100 * timing['share_of_yardstick']:.0f} %" if "gflops" in timing else "",
        )
        for name, timing in sorted(comparison["peers"].items(), key=lambda item: item[1]["median_ms"])
    ]
    head = ("peer", "ms (quartiles)", "times framecnn", "difference", "GFLOP/s", "of a @ b")
    return "\n\n".join(
        part
        for part in (f"**{comparison['case']}**", table(head, rows), fastest(comparison), missing([comparison]))
        if part
    )


def by_case(comparisons):
    """Return the table of many cases with a row for each case and a column for each peer."""
    names = list(dict.fromkeys(name for comparison in comparisons for name in comparison["peers"]))
    rows = []
    for comparison in comparisons:
        timed = comparison["peers"]
        best = comparison["fastest"].get("direct")
        cells = [milliseconds(timed[name]) if name in timed else "-" for name in names]
        share = 100 * timed["framecnn"]["share_of_yardstick"]
        ratio = f"{best['ratio']:.2f} ({best['name']})" if best else "-"
        rows.append((comparison["case"], *cells, f"{timed['framecnn']['gflops']:.0f}", f"{share:.0f} %", ratio))
    head = ("block", *(f"{name}, ms" for name in names), "GFLOP/s", "of a @ b", "fastest peer, times framecnn")
    return "\n\n".join(part for part in (table(head, rows), missing(comparisons)) if part)


def memory(peaks):
    """Return the table of peak memory by peer."""
    rows = [(name, *(f"{value:.0f}" for value in megabytes.values())) for name, megabytes in peaks.items()]
    return table(("peer", "before, MB", "peak, MB", "more, MB"), rows)
