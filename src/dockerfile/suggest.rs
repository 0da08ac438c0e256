/// Returns the one of `names` that `word` most likely was meant to be, ignoring case, if one is close.
pub(crate) fn closest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.to_lowercase().chars().take(LONGEST + 1).collect();
    if word.is_empty() || word.len() > LONGEST {
        return None;
    }
    let most = match word.len() {
        1..=2 => 1,
        3..=6 => 2,
        _ => 3,
    };
    names
        .into_iter()
        .take(MOST_NAMES)
        .filter_map(|name| {
            let other: Vec<char> = name.to_lowercase().chars().take(LONGEST + 1).collect();
            let far = other.len().abs_diff(word.len()) > most || other.len() > LONGEST;
            let distance = if far { usize::MAX } else { distance(&word, &other) };
            // A word that shares nothing with a short name is not meant to be it.
            (distance > 0 && distance <= most && distance < other.len()).then_some((distance, name))
        })
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, name)| name)
}

/// Returns "did you mean `…`?" for the one of `names` that is close to `word`.
pub(crate) fn did_you_mean<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    closest(word, names).map(|name| format!("did you mean `{name}`?"))
}

const LONGEST: usize = 64;
const MOST_NAMES: usize = 1000;

/// How many letters must be put in, left out, replaced or swapped with their neighbour.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (last[j - 1] + same).min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_its_word() {
        let names = ["RUN", "COPY", "ENTRYPOINT", "ENV", "construct"];
        for (word, name) in [("RNU", "RUN"), ("cpoy", "COPY"), ("ENTRYPIONT", "ENTRYPOINT"), ("constuct", "construct")]
        {
            assert_eq!(closest(word, names), Some(name));
        }
        assert_eq!(closest("alpine", names), None);
        assert_eq!(closest("", names), None);
        assert_eq!(closest(&"x".repeat(10_000), names), None);
    }
}
