//! The processor time of another process.

use std::time::Duration;
use std::{fs, io};

/// A process to look at.
#[derive(Debug, Clone, Copy)]
pub struct Process(pub u32);

impl Process {
    /// What its threads have used so far, to the nanosecond. Threads that have ended do not count.
    ///
    /// # Errors
    /// When it does not run.
    pub fn time(self) -> io::Result<Duration> {
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("process {}: {error}", self.0));
        let mut time = Duration::ZERO;
        for thread in fs::read_dir(format!("/proc/{}/task", self.0)).map_err(named)? {
            let statistics = thread?.path().join("schedstat");
            // A thread may end meanwhile.
            let text = fs::read_to_string(statistics).unwrap_or_default();
            let used = text.split(' ').next().and_then(|used| used.parse().ok());
            time += Duration::from_nanos(used.unwrap_or(0));
        }
        Ok(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_time() {
        let this = Process(std::process::id());
        let before = this.time().unwrap();
        let mut bytes = [0; 1 << 16];
        while this.time().unwrap() == before {
            fastrand::Rng::with_seed(1).fill(&mut bytes);
        }
        // The highest id that Linux gives is 2^22.
        assert!(Process(1 << 23).time().is_err());
    }
}
