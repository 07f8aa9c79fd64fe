//! From observations to a cell.

use std::collections::BTreeMap;

use serde_json::Value;

/// A table of rows: what happened, and what each system did.
pub(crate) fn markdown(rows: &[Vec<String>]) -> String {
    let mut text = "| fault | Ringward | iceoryx2 |\n| --- | --- | --- |\n".to_owned();
    for row in rows {
        text += &format!("| {} |\n", row.iter().map(|cell| cell.replace('|', "/")).collect::<Vec<_>>().join(" | "));
    }
    text
}

/// The numbers of a key.
pub(crate) fn numbers(seen: &[&Value], key: &str) -> Vec<f64> {
    let mut all: Vec<_> = seen.iter().filter_map(|one| one[key].as_f64()).collect();
    all.sort_by(f64::total_cmp);
    all
}

/// Median and extremes of a key's numbers, in milliseconds.
pub(crate) fn millis(seen: &[&Value], key: &str) -> Option<String> {
    let all = numbers(seen, key);
    let (least, most) = (all.first()?, all.last()?);
    let mid = all[all.len() / 2];
    Some(if all.len() == 1 {
        format!("{} ms", short(mid))
    } else {
        format!("{} ms ({}–{})", short(mid), short(*least), short(*most))
    })
}

fn short(number: f64) -> String {
    match number {
        ..10.0 => format!("{number:.2}"),
        ..100.0 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}

/// Sum of a key's numbers.
pub(crate) fn sum(seen: &[&Value], key: &str) -> u64 {
    numbers(seen, key).iter().sum::<f64>() as u64
}

/// How often each text of a key came, the most frequent first: `5× this, 1× that`.
pub(crate) fn counts(seen: &[&Value], key: &str) -> String {
    let mut all: BTreeMap<&str, usize> = BTreeMap::new();
    for one in seen {
        *all.entry(one[key].as_str().unwrap_or("nothing")).or_default() += 1;
    }
    let mut all: Vec<_> = all.into_iter().collect();
    all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    all.iter().map(|(what, count)| format!("{count}× {what}")).collect::<Vec<_>>().join(", ")
}
