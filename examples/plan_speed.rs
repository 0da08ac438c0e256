//! How long it takes to read a Dockerfile of 10,000 instructions and to plan it: `cargo run --release --example plan_speed`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use coracle::dockerfile;
use coracle::plan::{BaseImage, Graph, GraphOptions};
use coracle::source::Source;

fn text() -> String {
    let mut text = String::from("FROM scratch AS s0\nARG V=1\nENV base=/srv\n");
    for n in 0..1_250 {
        if n % 50 == 49 {
            writeln!(text, "FROM s{} AS s{}", n / 50, n / 50 + 1).expect("a string takes all");
        }
        writeln!(
            text,
            "ENV e{}=$base/{n}\nLABEL l{n}=\"$V ${{none:-x}}\"\nCOPY --chown=1:2 a{n} b/ $base/\nRUN --mount=type=cache,target=/c make {n}\n\
             COPY <<EOF /f{n}\n$base {n}\nEOF\nRUN <<EOF\necho {n}\nEOF\nEXPOSE {}\nWORKDIR /w/{n}",
            n % 20,
            n + 1
        )
        .expect("a string takes all");
    }
    text
}

fn main() {
    let source = Source::new("Dockerfile", text());
    let mut times = Vec::new();
    let mut instructions = 0;
    for _ in 0..21 {
        let start = Instant::now();
        let file = dockerfile::parse(&source).expect("a good Dockerfile");
        instructions = file.stages.iter().map(|stage| stage.instructions.len() + 1).sum();
        let bases: BTreeMap<String, BaseImage> = BTreeMap::new();
        let mut graph = Graph::new(&file, GraphOptions::default()).expect("a graph");
        graph.take_triggers(&bases).expect("no triggers");
        graph.lower(&bases).expect("a plan");
        times.push(start.elapsed());
    }
    times.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    println!(
        "{instructions} instructions: {:.1} ms (best {:.1}, worst {:.1})",
        ms(times[10]),
        ms(times[0]),
        ms(times[20])
    );
}
