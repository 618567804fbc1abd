"""python -m bench COMMAND [--json F]: what the project claims, measured; --help lists the commands."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from realtime.avatar import load_avatar
from realtime.errors import MiravoxError

ADA = Path("avatars/ada")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures what the project claims.")
    commands = parser.add_subparsers(dest="command", required=True)

    fidelity = commands.add_parser("fidelity", help="PSNR, SSIM and MSE of held-out takes painted again")
    fidelity.add_argument("--dataset", type=Path, help="folder; by default the held-out takes are filmed again")
    fidelity.add_argument("--frames", type=int, default=60, help="about so many held-out frames, in runs of five")
    fidelity.add_argument(
        "--networks", nargs="+", choices=("color", "onnx", "baked"), default=["color", "onnx", "baked"]
    )
    fidelity.add_argument(
        "--beside", type=Path, nargs="*", default=[], metavar="AVATAR",
        help="the same avatar with other composition networks, measured too",
    )  # fmt: skip
    fidelity.add_argument("--bounds", action="store_true", help="what the error is made of, too")
    fidelity.add_argument("--sheet", type=Path, help="PNG with six of the frames and their errors")
    fidelity.add_argument("--markdown", type=Path, help="file for the tables")
    fidelity.add_argument("--syncnet", type=Path, help="SyncNet's published weights, for LSE-D and LSE-C")

    ablation = commands.add_parser("ablation", help="faces trained with parts of the method left out")
    ablation.add_argument("--runs", type=Path, default=Path("build/ablation"), help="folder by training.ablation")
    ablation.add_argument("--dataset", type=Path, help="folder; by default the held-out takes are filmed again")
    ablation.add_argument("--frames", type=int, default=60, help="about so many held-out frames, in runs of five")
    ablation.add_argument("--markdown", type=Path, help="file for the table")
    ablation.add_argument("--syncnet", type=Path, help="SyncNet's published weights, for LSE-D and LSE-C")

    throughput = commands.add_parser("throughput", help="frames a second of offline rendering")
    throughput.add_argument("--source", type=Path, help="the avatar's sample recording by default")
    throughput.add_argument("--seconds", type=float, default=20.0, help="of speech")
    throughput.add_argument("--target", choices=("baked", "onnx"), default="baked")
    throughput.add_argument("--size", type=int, default=512)

    stages = commands.add_parser("stages", help="what a frame costs, stage by stage")
    stages.add_argument("--source", type=Path, help="the avatar's sample recording by default")
    stages.add_argument("--seconds", type=float, default=20.0, help="of speech, 20 at most")
    stages.add_argument("--target", choices=("baked", "onnx"), default="baked")
    stages.add_argument("--size", type=int, default=512)
    stages.add_argument("--reference", action="store_true", help="time Wav2Lip's generator in turns with it")
    stages.add_argument("--png", type=Path, help="picture of the figures")

    startup = commands.add_parser("startup", help="from the process's start to the first frame; memory of a session")
    startup.add_argument("--seconds", type=float, default=10.0, help="of rendering before memory is read")
    startup.add_argument("--target", choices=("baked", "onnx"), default="baked")

    sessions = commands.add_parser("sessions", help="avatars at once, and viewers of one")
    sessions.add_argument("--counts", type=int, nargs="*", default=[1, 2, 3], help="of sessions")
    sessions.add_argument("--viewers", type=int, nargs="*", default=[1, 10, 30], help="of one session")
    sessions.add_argument("--seconds", type=float, default=20.0, help="for each")
    sessions.add_argument("--png", type=Path, help="picture of the figures")

    soak = commands.add_parser("soak", help="memory, drift and late frames over a long stream to a headless browser")
    soak.add_argument("minutes", type=float)
    soak.add_argument("--target", choices=("baked", "onnx"), default="baked")
    soak.add_argument("--png", type=Path, help="picture of the memory")

    compare = commands.add_parser("compare", help="two result files side by side")
    compare.add_argument("first", type=Path)
    compare.add_argument("second", type=Path)

    articulation = commands.add_parser("articulation", help="lips against phones on held-out speech")

    speech = commands.add_parser("speech", help="phones, visemes, presence and lips on speakers never heard")
    speech.add_argument("--audio", type=Path, help="folder with other recordings, each named by its label's id")
    speech.add_argument("--labels", type=Path, help="their phone timings, one JSON object a line")
    speech.add_argument("--readout", type=Path, help="of the avatar's encoder, by training.readout; Ada's by default")
    speech.add_argument("--png", type=Path, help="picture of the figures against the lookahead")

    lookahead = commands.add_parser("lookahead", help="what is heard and mouth to photon against the lookahead")
    lookahead.add_argument("--seconds", type=float, default=20.0, help="measured at each, less the first five")
    lookahead.add_argument(
        "--readout", type=Path, help="of the avatar's encoder, by training.readout; Ada's by default"
    )
    lookahead.add_argument("--target", choices=("baked", "onnx"), default="baked")
    lookahead.add_argument("--png", type=Path, help="picture of the figures")

    latency = commands.add_parser("latency", help="mouth to photon in a headless browser")
    latency.add_argument("--seconds", type=float, default=120.0, help="measured, less the first five")
    latency.add_argument("--audio", type=Path, help="recording for the microphone; the avatar's sample by default")
    latency.add_argument("--target", choices=("baked", "onnx"), default="baked")
    latency.add_argument("--png", type=Path, help="picture of the figures")
    latency.add_argument("--loss", type=float, default=0.0, metavar="SHARE", help="of the media packets, both ways")
    latency.add_argument("--outage", type=float, default=0.0, metavar="SECONDS", help="once, in the middle")

    sheet = commands.add_parser("sheet", help="frames beside their phones")
    sheet.add_argument("--id", default="7511-102419-0000", help="an utterance of the label file")
    sheet.add_argument("--png", type=Path, required=True)
    sheet.add_argument("--first", type=int, default=0, help="first frame")

    screenshots = commands.add_parser("screenshots", help="pictures of the page in every state")
    screenshots.add_argument("--out", type=Path, default=Path("docs"), help="folder for page-STATE-WIDTH.jpg")

    for command in (
        fidelity, ablation, throughput, stages, startup, sessions, soak, articulation, speech, lookahead, latency,
        sheet, screenshots,
    ):  # fmt: skip
        command.add_argument("--avatar", type=Path, default=ADA)
    for command in (
        fidelity,
        ablation,
        throughput,
        stages,
        startup,
        sessions,
        soak,
        articulation,
        speech,
        lookahead,
        latency,
    ):
        command.add_argument("--json", type=Path, help="file for the figures, with hardware, versions and commit")
    return parser.parse_args(arguments)


def main() -> None:
    o = parse()
    config: dict[str, object] = {
        k: ([str(x) for x in v] if isinstance(v, list) else str(v)) for k, v in vars(o).items() if v is not None
    }
    try:
        run(o, config)
    except MiravoxError as error:
        print(f"miravox: {error}", file=sys.stderr)
        raise SystemExit(2) from error


def run(o: argparse.Namespace, config: dict[str, object]) -> None:
    # Each bench is imported when it is asked for: throughput needs neither torch nor the training data.
    from bench.record import save

    if o.command == "compare":
        from bench import compare

        compare.print_table(o.first, o.second)
        return
    avatar = load_avatar(o.avatar)
    if o.command == "fidelity":
        from bench import fidelity

        dataset = fidelity.held_out_dataset(avatar, o.dataset)
        beside = tuple(load_avatar(folder) for folder in o.beside)
        figures, share = fidelity.fidelity(
            avatar, dataset, tuple(o.networks), o.frames, o.sheet, o.syncnet, beside, o.bounds
        )
        text = fidelity.table(figures, share)
        print(text)
        if o.markdown:
            o.markdown.parent.mkdir(parents=True, exist_ok=True)
            o.markdown.write_text(text)
        save({"figures": figures, "inpaint_share": share}, config, o.json)
    elif o.command == "ablation":
        from bench.ablation import ablation, table

        variants = ablation(avatar, o.runs, o.dataset, o.frames, o.syncnet)
        text = table(variants)
        print(text)
        if o.markdown:
            o.markdown.parent.mkdir(parents=True, exist_ok=True)
            o.markdown.write_text(text)
        save({"figures": variants}, config, o.json)
    elif o.command == "throughput":
        from bench.throughput import throughput

        result = throughput(o.avatar, o.source or avatar.sample, o.seconds, o.target, o.size)
        print(
            f"{result['frames']} frames of {o.size} x {o.size}, target {o.target}: {result['fps']:.1f} frames a second"
        )
        save(result, config, o.json)
    elif o.command == "stages":
        from bench import stages

        timed = stages.stages(avatar, o.source or avatar.sample, o.seconds, o.target, o.size, o.reference)
        stages.print_table(timed)
        if o.png:
            stages.plot(timed, o.png)
        save(timed, config, o.json)
    elif o.command == "startup":
        from bench import startup

        started = startup.startup(avatar, o.target, o.seconds)
        startup.print_table(started)
        save(started, config, o.json)
    elif o.command == "sessions":
        from bench import sessions

        carried = sessions.sessions(avatar, o.counts, o.viewers, o.seconds)
        sessions.print_table(carried)
        if o.png:
            sessions.plot(carried, o.png)
        save(carried, config, o.json)
    elif o.command == "soak":
        from bench import soak

        watched = soak.soak(avatar, o.target, o.minutes)
        soak.print_table(watched)
        if o.png:
            soak.plot(watched, o.png)
        save(watched, config, o.json)
    elif o.command == "articulation":
        from bench import articulation

        measured = articulation.held_out_articulation(avatar)
        articulation.print_table(measured)
        save({"figures": measured}, config, o.json)
    elif o.command == "speech":
        from bench import speech

        if (o.audio is None) != (o.labels is None):
            raise MiravoxError(
                "--audio", found="one of --audio and --labels", wanted="both or neither",
                remedy="Labels look like those of MIRAVOX_DATA/speech/labels.jsonl.",
            )  # fmt: skip
        recordings = speech.other_speech(o.audio, o.labels) if o.audio else speech.held_out_speech()
        result = speech.speech(avatar, recordings, o.readout or speech.READOUT)
        speech.print_table(result)
        if o.png:
            speech.plot(result, o.png)
        save(result, config, o.json)
    elif o.command == "lookahead":
        from bench import lookahead
        from bench.speech import READOUT, held_out_speech

        bought = lookahead.lookahead(avatar, held_out_speech(), o.readout or READOUT, o.target, o.seconds)
        lookahead.print_table(bought)
        if o.png:
            lookahead.plot(bought, o.png)
        save(bought, config, o.json)
    elif o.command == "latency":
        from bench import latency

        timed = latency.latency(avatar, o.target, o.audio, o.seconds, o.loss, o.outage, o.png)
        latency.print_table(timed)
        save(timed, config, o.json)
    elif o.command == "screenshots":
        from bench.screenshots import screenshots

        for path in screenshots(avatar, o.out):
            print(path)
    else:
        assert o.command == "sheet"
        from bench.articulation import phone_sheet
        from training.phones import data_folder, load_utterances

        found = [u for u in load_utterances(data_folder()) if u.id == o.id]
        if not found:
            raise MiravoxError(
                o.id, found="no such label", wanted="an id of labels.jsonl", remedy="Name another with --id."
            )
        phone_sheet(avatar, found[0], o.png, o.first)


if __name__ == "__main__":
    main()
