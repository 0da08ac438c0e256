use super::*;

#[test]
fn sizes_are_read_as_docker_reads_them() {
    for (text, expected) in [
        ("100", Some(100)),
        ("1k", Some(1024)),
        ("1.5m", Some(3 << 19)),
        ("2GiB", Some(2 << 30)),
        ("1 kb", Some(1024)),
        ("1tb", Some(1 << 40)),
        ("x", None),
        ("1x", None),
        ("", None),
        ("-1", None),
    ] {
        assert_eq!(bytes(text), expected, "{text}");
    }
}
