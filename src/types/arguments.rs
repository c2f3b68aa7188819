//! What is said of arguments that the parser refuses.

/// A sentence for people, without the parser's words.
pub fn refused(error: &lexopt::Error) -> String {
    match error {
        lexopt::Error::MissingValue {
            option: Some(option),
        } => format!("{option} needs a value"),
        lexopt::Error::UnexpectedValue { option, value } => {
            format!("{option} takes no value, and was given {value:?}")
        }
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_missing_or_too_much_is_told_with_its_flag() {
        let mut parser = lexopt::Parser::from_args(["--json=3", "-n"]);
        parser.next().unwrap();
        let error = parser.next().unwrap_err();
        assert_eq!(
            refused(&error),
            "--json takes no value, and was given \"3\""
        );
        parser.next().unwrap();
        let error = parser.value().unwrap_err();
        assert_eq!(refused(&error), "-n needs a value");
    }
}
