//! Time of the process on all its threads, and memory beyond what was there before.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// What one direction of a coder costs.
#[derive(Clone, Copy)]
pub struct Cost {
    pub seconds: f64,
    pub mib: f64,
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A figure of the process, as the kernel keeps it.
pub fn status_mib(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a Linux process");
    let line = status.lines().find(|line| line.starts_with(field));
    let word = line.and_then(|line| line.split_whitespace().nth(1));
    word.and_then(|word| word.parse::<f64>().ok())
        .unwrap_or(0.0)
        / 1024.0
}

/// Does something `repeat` times; the least processor time, the memory of the first time.
pub fn best<T>(repeat: usize, mut work: impl FnMut() -> T) -> (T, Cost) {
    // Sets the peak back to what is used now.
    std::fs::write("/proc/self/clear_refs", "5").expect("a Linux process");
    let before = status_mib("VmRSS");
    let mut times = (0..repeat.max(1)).map(|_| {
        let start = cpu_time();
        let result = work();
        let seconds = (cpu_time() - start).as_secs_f64();
        (result, seconds, status_mib("VmHWM"))
    });
    let (mut result, mut seconds, peak) = times.next().expect("one at least");
    for (again, more, _) in times {
        result = again;
        seconds = seconds.min(more);
    }
    let mib = peak - before;
    (result, Cost { seconds, mib })
}

/// Prints what `../run.py` reads.
pub fn report(coded: usize, encode: Cost, decode: Cost) {
    println!(
        "{{\"coded\": {coded}, \"encode_s\": {:.6}, \"decode_s\": {:.6}, \"encode_mib\": {:.0}, \"decode_mib\": {:.0}}}",
        encode.seconds, decode.seconds, encode.mib, decode.mib
    );
}

/// Copies 256 MiB, far beyond every cache.
pub fn memcpy() {
    let source = vec![1_u8; 256 << 20];
    let mut copy = vec![0_u8; 256 << 20];
    let ((), cost) = best(5, || copy.copy_from_slice(std::hint::black_box(&source)));
    std::hint::black_box(&copy);
    println!(
        "{{\"memcpy\": {:.3}}}",
        copy.len() as f64 / cost.seconds / 1e9
    );
}
