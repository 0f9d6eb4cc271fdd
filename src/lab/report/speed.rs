//! A record [at one speed](Record::at_one_speed), for what compares times of different parts.

use std::collections::BTreeMap;

use super::read::{Record, Row};
use crate::lab::stats::median;

impl Record {
    /// The same as if the machine had been as fast all the while as it was when the median row was measured. A virtual machine is not: from
    /// part to part all times rise and fall by a third, with the floor, and a model of one part would be held against another machine.
    pub(in crate::lab) fn at_one_speed(mut self) -> Self {
        let mut floors: BTreeMap<Option<String>, Vec<f64>> = BTreeMap::new();
        let rows = || self.parts.values().flat_map(|part| &part.rows);
        for (distance, floor) in rows().filter_map(|row| Some((&row.distance, row.floor_ns?))) {
            floors.entry(distance.clone()).or_default().push(floor);
        }
        let usual: BTreeMap<_, _> = floors.into_iter().map(|(at, mut floors)| (at, median(&mut floors))).collect();
        for row in self.parts.values_mut().flat_map(|part| &mut part.rows) {
            if let Some((usual, floor)) = usual.get(&row.distance).zip(row.floor_ns) {
                row.times(usual / floor);
            }
        }
        self
    }
}

impl Row {
    /// Takes so many times as long.
    fn times(&mut self, factor: f64) {
        let times = [
            &mut self.p50_ns,
            &mut self.p50_low_ns,
            &mut self.p50_high_ns,
            &mut self.p99_ns,
            &mut self.p999_ns,
            &mut self.clock_ns,
            &mut self.mean_ns,
            &mut self.execution_ns,
            &mut self.floor_ns,
            &mut self.copy_floor_ns,
            &mut self.client_cpu_ns,
            &mut self.host_cpu_ns,
        ];
        times.into_iter().flatten().for_each(|time| *time *= factor);
        self.calls_per_s = self.calls_per_s.map(|calls| calls / factor);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_slow_part_is_as_fast_as_the_others() {
        let directory = tempfile::tempdir().expect("a directory");
        let write = |file: &str, text: &str| fs::write(directory.path().join(file), text).expect("written");
        let head = "transport,wait,host,workload,placement,think_us,in_flight,connections,distance,slices,p50_ns,floor_ns,errors\n";
        let row = |at: &str, p50: &str| format!("uds,park,thread,read:32,split,0,1,1,{at},9,{p50},0\n");
        write("machine.txt", "");
        write("commands.txt", "");
        write("sizes.csv", &[head, &row("near", "1000,100"), &row("near", "1100,110"), &row("far", "7,300")].concat());
        write("slow.csv", &[head, &row("near", "2000,200"), &row("", "5,")].concat());
        let record = Record::read(directory.path()).expect("a record").at_one_speed();
        let p50s = |part| record.rows(part).iter().map(|row| row.p50_ns.expect("a median").round()).collect::<Vec<_>>();
        // Those without a floor, and those at a distance of their own, are what they were.
        assert_eq!((p50s("sizes"), p50s("slow")), (vec![1100.0, 1100.0, 7.0], vec![1100.0, 5.0]));
    }
}
