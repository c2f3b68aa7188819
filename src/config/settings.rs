//! The six limits of `/v1/processes/config`: defaults, validation, replacement.
//!
//! In: the JSON object of a request (already decoded by serde). Out: a [`Settings`] that holds.
//! Knows no process and no connection.

use serde::{Deserialize, Serialize};

/// Limits that hold for new requests; field order is the wire's key order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// Running managed processes; runs are not counted.
    pub max_concurrent_processes: u64,
    /// Milliseconds a run may take when its request names no timeout.
    pub default_run_timeout_ms: u64,
    /// Milliseconds that a run's own timeout is lowered to.
    pub max_run_timeout_ms: u64,
    /// Bytes kept of each stream of a run.
    pub max_output_bytes: u64,
    /// Decoded bytes retained in the log of one process.
    pub max_log_bytes_per_process: u64,
    /// Decoded bytes of one input.
    pub max_input_bytes_per_request: u64,
}

impl Settings {
    /// The same, as numbers in the order of the fields.
    pub fn numbers(mut self) -> [u64; FIELDS.len()] {
        FIELDS.map(|(_, field)| *field(&mut self))
    }

    /// What [`Settings::numbers`] has given.
    pub fn from_numbers(numbers: [u64; FIELDS.len()]) -> Self {
        let mut settings = Self::default();
        for ((_, field), number) in FIELDS.iter().zip(numbers) {
            *field(&mut settings) = number;
        }
        settings
    }
}

/// Why a [`Settings`] was refused; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingsError {
    /// `maxConcurrentProcesses` is 0.
    NoProcesses,
    /// One of the timeouts is 0.
    NoTime,
    /// One of the byte limits is 0.
    NoBytes,
}

impl SettingsError {
    /// The sentence that clients see.
    pub fn message(self) -> &'static str {
        match self {
            SettingsError::NoProcesses => "maxConcurrentProcesses must be greater than 0",
            SettingsError::NoTime => "timeouts must be greater than 0",
            SettingsError::NoBytes => "byte limits must be greater than 0",
        }
    }
}

/// Each of them: the flag that sets it, and how it is reached.
type Field = (&'static str, fn(&mut Settings) -> &mut u64);

/// The six, in their order.
pub const FIELDS: [Field; 6] = [
    ("max-concurrent-processes", |of| {
        &mut of.max_concurrent_processes
    }),
    ("default-run-timeout-ms", |of| {
        &mut of.default_run_timeout_ms
    }),
    ("max-run-timeout-ms", |of| &mut of.max_run_timeout_ms),
    ("max-output-bytes", |of| &mut of.max_output_bytes),
    ("max-log-bytes-per-process", |of| {
        &mut of.max_log_bytes_per_process
    }),
    ("max-input-bytes-per-request", |of| {
        &mut of.max_input_bytes_per_request
    }),
];

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_concurrent_processes: 64,
            default_run_timeout_ms: 30_000,
            max_run_timeout_ms: 300_000,
            max_output_bytes: 1 << 20,
            max_log_bytes_per_process: 10 << 20,
            max_input_bytes_per_request: 64 << 10,
        }
    }
}

impl Settings {
    /// The same with the fields that `takes` names taken from `other`.
    pub fn with(mut self, mut other: Self, takes: impl Fn(&str) -> bool) -> Self {
        for (flag, field) in FIELDS {
            if takes(flag) {
                *field(&mut self) = *field(&mut other);
            }
        }
        self
    }

    /// What differs, as people write it (`max_output_bytes from 1 to 2, ...`).
    pub fn changes(mut self, mut new: Self) -> String {
        let mut all = Vec::new();
        for (flag, field) in FIELDS {
            let (before, now) = (*field(&mut self), *field(&mut new));
            if before != now {
                all.push(format!("{} from {before} to {now}", flag.replace('-', "_")));
            }
        }
        all.join(", ")
    }

    /// Checks every field and lowers the default timeout to the maximum.
    ///
    /// # Errors
    /// A zero anywhere.
    pub fn validated(mut self) -> Result<Self, SettingsError> {
        if self.max_concurrent_processes == 0 {
            return Err(SettingsError::NoProcesses);
        }
        if self.default_run_timeout_ms == 0 || self.max_run_timeout_ms == 0 {
            return Err(SettingsError::NoTime);
        }
        if self.max_output_bytes == 0
            || self.max_log_bytes_per_process == 0
            || self.max_input_bytes_per_request == 0
        {
            return Err(SettingsError::NoBytes);
        }
        self.default_run_timeout_ms = self.default_run_timeout_ms.min(self.max_run_timeout_ms);
        Ok(self)
    }

    /// The timeout in force for a run that asked for `requested_ms` (0 and absent mean default).
    pub fn run_timeout_ms(&self, requested_ms: Option<u64>) -> u64 {
        match requested_ms {
            None | Some(0) => self.default_run_timeout_ms,
            Some(ms) => ms.min(self.max_run_timeout_ms),
        }
    }

    /// The cap in force for each stream of a run that asked for `requested` bytes.
    pub fn run_output_bytes(&self, requested: Option<u64>) -> u64 {
        requested.map_or(self.max_output_bytes, |bytes| {
            bytes.min(self.max_output_bytes)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_timeout_never_exceeds_the_maximum() {
        let settings = Settings {
            default_run_timeout_ms: 500,
            max_run_timeout_ms: 100,
            ..Settings::default()
        };
        assert_eq!(
            settings.validated().map(|s| s.default_run_timeout_ms),
            Ok(100)
        );
    }

    #[test]
    fn any_zero_is_refused_by_kind() {
        let with = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            settings.validated().err()
        };
        assert_eq!(
            with(|s| s.max_concurrent_processes = 0),
            Some(SettingsError::NoProcesses)
        );
        assert_eq!(
            with(|s| s.max_run_timeout_ms = 0),
            Some(SettingsError::NoTime)
        );
        assert_eq!(
            with(|s| s.default_run_timeout_ms = 0),
            Some(SettingsError::NoTime)
        );
        assert_eq!(
            with(|s| s.max_output_bytes = 0),
            Some(SettingsError::NoBytes)
        );
        assert_eq!(
            with(|s| s.max_input_bytes_per_request = 0),
            Some(SettingsError::NoBytes)
        );
        assert_eq!(
            with(|s| s.max_log_bytes_per_process = 0),
            Some(SettingsError::NoBytes)
        );
    }

    #[test]
    fn a_run_without_a_timeout_gets_the_default_and_a_long_one_is_lowered() {
        let settings = Settings::default();
        assert_eq!(settings.run_timeout_ms(None), 30_000);
        assert_eq!(settings.run_timeout_ms(Some(0)), 30_000);
        assert_eq!(settings.run_timeout_ms(Some(7)), 7);
        assert_eq!(settings.run_timeout_ms(Some(u64::MAX)), 300_000);
        assert_eq!(settings.run_output_bytes(Some(0)), 0);
        assert_eq!(settings.run_output_bytes(Some(u64::MAX)), 1 << 20);
    }
}
