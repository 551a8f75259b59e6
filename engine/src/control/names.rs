//! What topics and groups may be called.

use gannet_wire::limits::{GROUP_NAME_BYTES_MAX, TOPIC_NAME_BYTES_MAX};

/// Checks a topic's name: 1 to 249 letters, digits, dots, dashes and underscores of ASCII, as Kafka has it; and neither `.` nor `..`.
pub fn check_topic_name(name: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if name.is_empty() || name.len() > TOPIC_NAME_BYTES_MAX {
        return Err(format!(
            "a topic's name has 1 to {TOPIC_NAME_BYTES_MAX} characters, this one has {}",
            name.len()
        ));
    }
    if name == "." || name == ".." {
        return Err(format!("a topic cannot be called {name}"));
    }
    match name.bytes().find(|byte| !allowed(*byte)) {
        Some(byte) => Err(format!(
            "a topic's name has only letters, digits, '.', '-' and '_' of ASCII; {name:?} has the byte {byte:#04x}"
        )),
        None => Ok(()),
    }
}

/// Checks a group's name: 1 to 255 bytes of UTF-8 without control characters.
pub fn check_group_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > GROUP_NAME_BYTES_MAX {
        return Err(format!(
            "a group's name has 1 to {GROUP_NAME_BYTES_MAX} bytes, this one has {}",
            name.len()
        ));
    }
    if name.chars().any(char::is_control) {
        return Err(format!(
            "a group's name has no control characters; {name:?} has one"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_allowed_characters_and_length_are_taken() {
        for name in ["a", "orders.v1-EU_west", &"x".repeat(TOPIC_NAME_BYTES_MAX)] {
            assert_eq!(check_topic_name(name), Ok(()));
        }
    }

    #[test]
    fn names_that_could_leave_their_directory_or_confuse_a_terminal_are_refused() {
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "a b",
            "ü",
            "a\n",
            &"x".repeat(TOPIC_NAME_BYTES_MAX + 1),
        ] {
            assert!(check_topic_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn groups_may_be_called_anything_printable() {
        assert_eq!(check_group_name("billing team/ü"), Ok(()));
        for name in ["", "a\0b", &"x".repeat(GROUP_NAME_BYTES_MAX + 1)] {
            assert!(check_group_name(name).is_err(), "{name:?}");
        }
    }
}
