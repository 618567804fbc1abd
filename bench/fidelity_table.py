"""The tables of bench fidelity, as Markdown, the thesis's figures beside ours."""

from __future__ import annotations

from typing import Any

Figures = dict[str, object]

# Tables 4.5 and 4.7 of the thesis; over which pixels is not said there.
THESIS = {
    "Table 4.5, six actors": {"ssim": 0.982, "psnr": 37.791, "mse": 0.0002},
    "Table 4.7, color": {"ssim": 0.952, "psnr": 31.643, "mse": 0.00070},
    "Table 4.7, dilated": {"ssim": 0.979, "psnr": 38.527, "mse": 0.00016},
    "Table 4.7, strided": {"ssim": 0.977, "psnr": 37.970, "mse": 0.00017},
}
THESIS_LSE = {"ours": {"d": 7.33, "c": 5.19}, "recordings": {"d": 7.23, "c": 6.09}}  # averages of its Table A.2


def table(figures: Figures, share: float) -> str:
    """Everything as Markdown, the thesis's figures beside ours."""
    lines = ["| what | region | PSNR dB | SSIM | MSE |", "|---|---|---|---|---|"]
    for name, f in THESIS.items():
        lines.append(f"| thesis, {name} | not said | {f['psnr']:.2f} | {f['ssim']:.3f} | {f['mse']:.5f} |")
    networks = [name for name, parts in figures.items() if isinstance(parts, dict) and "frame" in parts]
    for network in networks:
        parts = figures[network]
        assert isinstance(parts, dict)
        for part, f in parts.items():
            if isinstance(f, dict) and "psnr" in f:
                lines.append(f"| {network} | {part} | {f['psnr']:.2f} | {f['ssim']:.4f} | {f['mse']:.6f} |")
    lines += ["", "| network | seam | teeth sharpness | flicker | jitter, mm (truth) |", "|---|---|---|---|---|"]
    for network in networks:
        parts = figures[network]
        assert isinstance(parts, dict)
        jitter = parts.get("jitter_mm")
        ratios = [parts[k] for k in ("seam_ratio", "teeth_sharpness", "flicker_ratio")]
        cells = ["-" if r is None else f"{r:.2f}" for r in ratios]
        cells.append(f"{jitter['predicted']:.2f} ({jitter['true']:.2f})" if jitter else "-")
        lines.append(f"| {network} | {' | '.join(cells)} |")
    lips = figures["geometry"]
    assert isinstance(lips, dict)
    lines += _lips_table(lips)
    lines += ["", f"The inpaint region is {100 * share:.1f} % of the frame."]
    sync = figures["lse"]
    if isinstance(sync, dict):
        lines.append(
            f"LSE-D {sync['d']:.2f}, LSE-C {sync['c']:.2f}; as filmed {sync['filmed']['d']:.2f}, "
            f"{sync['filmed']['c']:.2f}; thesis {THESIS_LSE['ours']['d']}, {THESIS_LSE['ours']['c']} against "
            f"{THESIS_LSE['recordings']['d']}, {THESIS_LSE['recordings']['c']} of its recordings."
        )
    else:
        lines.append(f"LSE: {figures['lse_reason']}.")
    return "\n".join(lines) + "\n"


def _lips_table(lips: dict[str, Any]) -> list[str]:
    """Against the studio's own, or as tracked."""
    lines = [
        "",
        "| lips, held-out speech | aperture, mm (95 %) | correlation | width, mm | P B M closed (95 %) |"
        " open vowels closed |",
        "|---|---|---|---|---|---|",
    ]
    for name, f in (("own voice", lips["own_voice"]), ("voices never heard", lips["never_heard"])):
        if f is None:
            continue
        low, high = f["aperture_error_interval"]
        closures, vowels = f["counts"]["closures"], f["counts"]["vowels"]
        least, most = closures["interval"]
        closed, open_closed = "not known", "not known"  # without phones
        if closures["of"]:
            closed = f"{100 * closures['share']:.0f} % of {closures['of']} ({100 * least:.0f} to {100 * most:.0f})"
        if vowels["of"]:
            open_closed = f"{100 * vowels['share']:.1f} % of {vowels['of']}"
        lines.append(
            f"| {name} | {f['aperture_error_mm']:.2f} ({low:.2f} to {high:.2f}) | {f['aperture_correlation']:.2f} |"
            f" {f['width_error_mm']:.2f} | {closed} | {open_closed} |"
        )
    return lines
