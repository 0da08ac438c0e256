//! Paths in an image, by their text alone.

/// Returns `path` as an absolute path without `.`, `..` and double slashes; a relative one starts at `base`. A slash at
/// its end stays, as it means something to COPY and is kept by WORKDIR.
pub(super) fn absolute(base: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let base = if path.starts_with('/') { "" } else { base };
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let mut clean = String::with_capacity(base.len() + path.len() + 2);
    for part in &parts {
        clean.push('/');
        clean.push_str(part);
    }
    if clean.is_empty() || path.ends_with('/') {
        clean.push('/');
    }
    clean
}

/// Returns where COPY copies to: [`absolute`], and "the working directory" for nothing; `.` at the end is a directory,
/// too.
pub(super) fn destination(workdir: &str, path: &str) -> String {
    match path {
        "" | "." => absolute(workdir, "./"),
        path if path.ends_with("/.") => absolute(workdir, &path[..path.len() - 1]),
        path => absolute(workdir, path),
    }
}

/// Returns `path` without `.`, double slashes and what `..` takes back; a relative one stays relative, and nothing is ".".
pub(super) fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match (part, parts.last()) {
            ("" | ".", _) => {}
            ("..", Some(&last)) if last != ".." => drop(parts.pop()),
            ("..", _) if absolute => {}
            (part, _) => parts.push(part),
        }
    }
    match (absolute, parts.join("/")) {
        (true, rest) => format!("/{rest}"),
        (false, rest) if rest.is_empty() => ".".into(),
        (false, rest) => rest,
    }
}

/// Returns the last part of `path`, as Go's `path.Base`.
pub(super) fn base(path: &str) -> String {
    let trimmed = path.trim_end_matches('/');
    match trimmed.rsplit('/').next() {
        _ if path.is_empty() => ".".into(),
        None | Some("") => "/".into(),
        Some(base) => base.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workdir_is_absolute_and_keeps_its_slash() {
        for (base, path, expected) in [
            ("/", "web", "/web"),
            ("/web", "site", "/web/site"),
            ("/web", "/srv", "/srv"),
            ("/", "a/", "/a/"),
            ("/a/", "b", "/a/b"),
            ("/a", "../..", "/"),
            ("/a", "./b//c/../d", "/a/b/d"),
            ("/a", "/", "/"),
            ("/a", "//", "/"),
            ("", "a", "/a"),
        ] {
            assert_eq!(absolute(base, path), expected, "{base} {path}");
        }
    }

    #[test]
    fn a_path_is_cleaned_as_go_cleans_it() {
        for (path, cleaned, last) in [
            ("", ".", "."),
            ("/", "/", "/"),
            ("/a/", "/a", "a"),
            ("a//b/./c/..", "a/b", ".."),
            ("../../x", "../../x", "x"),
            ("/../x", "/x", "x"),
            ("a/..", ".", ".."),
        ] {
            assert_eq!((clean(path).as_str(), base(path).as_str()), (cleaned, last), "{path}");
        }
    }

    #[test]
    fn a_destination_that_is_a_directory_by_its_text_ends_with_a_slash() {
        for (workdir, path, expected) in [
            ("/web", ".", "/web/"),
            ("/web", "", "/web/"),
            ("/web", "./", "/web/"),
            ("/", ".", "/"),
            ("/web", "x", "/web/x"),
            ("/web", "x/", "/web/x/"),
            ("/web", "x/.", "/web/x/"),
            ("/web", "/x/.", "/x/"),
            ("/web", "/", "/"),
            ("/web", "..", "/"),
        ] {
            assert_eq!(destination(workdir, path), expected, "{workdir} {path}");
        }
    }
}
