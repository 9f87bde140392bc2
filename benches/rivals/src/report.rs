//! How figures are printed.

use std::io::{Write, stdout};

use crate::cell::Cell;
use crate::figure::Figure;

/// The name of a cell, and who takes part.
pub fn list(cell: &Cell) {
    let names: Vec<&str> = cell.contenders.iter().map(|contender| contender.name).collect();
    println!("{}: {}", cell.name(), names.join(", "));
}

pub fn print(cell: &Cell, figures: &[Result<Figure, String>], json: bool) {
    if json {
        lines(cell, figures)
    } else {
        table(cell, figures)
    }
    _ = stdout().flush();
}

fn table(cell: &Cell, figures: &[Result<Figure, String>]) {
    println!("\n{:<41} {:<32} ratio", cell.name(), cell.unit.to_string() + ": median [min..max]");
    for (contender, figure) in cell.contenders.iter().zip(figures) {
        let name = contender.name;
        match figure {
            Ok(figure) => {
                let ratio =
                    ratio(cell, &figures[0], figure).map_or("-".into(), |ratio| format!("{ratio:.2}"));
                let wedges = contender.wedges.map_or(String::new(), |reason| format!("  wedges: {reason}"));
                println!("  {name:<39} {figure:<30} {ratio:>7}{wedges}");
            }
            Err(reason) => println!("  {name:<39} left out: {reason}"),
        }
    }
}

/// One object for each peer that has a figure, if ours has one.
fn lines(cell: &Cell, figures: &[Result<Figure, String>]) {
    for (peer, figure) in cell.contenders.iter().zip(figures).skip(1) {
        match (&figures[0], figure) {
            (Ok(ours), Ok(theirs)) => println!(
                "{{\"what\":{:?},\"size\":{:?},\"placement\":\"{}\",\"unit\":\"{}\",\"ours\":{:.4},\"peer\":{:?},\
                 \"theirs\":{:.4},\"ratio\":{:.3}{}}}",
                cell.what,
                cell.task.size.to_string(),
                cell.task.placement,
                cell.unit,
                ours.median,
                peer.name,
                theirs.median,
                cell.unit.ratio(ours.median, theirs.median),
                peer.wedges.map_or(String::new(), |reason| format!(",\"wedges\":{reason:?}")),
            ),
            (Err(reason), _) => eprintln!("{}: {} left out: {reason}", cell.name(), cell.contenders[0].name),
            (_, Err(reason)) => eprintln!("{}: {} left out: {reason}", cell.name(), peer.name),
        }
    }
}

/// Above 1 if ours is the better one; None for ours itself.
fn ratio(cell: &Cell, ours: &Result<Figure, String>, theirs: &Figure) -> Option<f64> {
    let ours = ours.as_ref().ok()?;
    (!std::ptr::eq(ours, theirs)).then(|| cell.unit.ratio(ours.median, theirs.median))
}
