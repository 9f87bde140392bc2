//! Figures of several contenders, taken in turns, and how they are printed.

use std::fmt;

const REPETITIONS: usize = 5;

/// One way to do something, and its figure each time it is run.
pub(crate) struct Way<'a> {
    name: &'a str,
    run: Box<dyn Fn() -> f64 + 'a>,
}

pub(crate) fn way<'a>(name: &'a str, run: impl Fn() -> f64 + 'a) -> Way<'a> {
    Way { name, run: Box::new(run) }
}

/// Which figure is the better one.
#[derive(Clone, Copy)]
pub(crate) enum Better {
    Less,
    More,
}

/// Rows of one section.
pub(crate) struct Table(Better);

impl Table {
    pub(crate) fn new(title: &str, better: Better) -> Table {
        println!("\n{title:<30} {:<25} {:<52} ratio", "ours", "peer");
        Table(better)
    }

    /// Runs ours and its peers in turns; one line for each peer.
    pub(crate) fn row(&self, what: &str, ours: impl Fn() -> f64, peers: &[Way<'_>]) {
        let mut runs = vec![vec![]; peers.len() + 1];
        for _ in 0..REPETITIONS {
            runs[0].push(ours());
            peers.iter().zip(&mut runs[1..]).for_each(|(peer, runs)| runs.push((peer.run)()));
        }
        let mut figures = runs.into_iter().map(Figure::of);
        let ours = figures.next().expect("ours is the first");
        let (mut what, mut shown) = (what, ours.to_string());
        for (peer, theirs) in peers.iter().zip(figures) {
            let ratio = match self.0 {
                Better::Less => theirs.median / ours.median,
                Better::More => ours.median / theirs.median,
            };
            println!("{what:<30} {shown:<25} {:<26} {theirs:<25} {ratio:>5.2}", peer.name);
            (what, shown) = ("", String::new());
        }
    }
}

/// The median of some runs, and between what they lay.
struct Figure {
    median: f64,
    least: f64,
    most: f64,
}

impl Figure {
    fn of(mut runs: Vec<f64>) -> Figure {
        runs.sort_by(f64::total_cmp);
        Figure { median: runs[runs.len() / 2], least: runs[0], most: runs[runs.len() - 1] }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.median < 1000.0 { 1 } else { 0 };
        f.pad(&format!("{:.digits$} [{:.digits$}..{:.digits$}]", self.median, self.least, self.most))
    }
}
