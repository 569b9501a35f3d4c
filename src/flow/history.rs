//! The commits behind a commit: newest first, children before parents.
//!
//! May use: tiers 0 to 4. Must never read more than commits: history is as fast on large models
//! as on small ones.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use store_format::commit::Commit;
use store_format::ids::CommitId;

use crate::error::Result;
use crate::flow::read::Rebuilder;

/// A commit of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// Its name.
    pub id: CommitId,
    /// What it says.
    pub commit: Commit,
}

/// The commits behind `starts`, and they themselves: of those whose child was given, the newest.
/// Reads as many commits as are taken, and their parents.
///
/// # Errors
/// Commits that are missing or damaged; the walk ends with the first failure.
pub fn walk<'r>(
    rebuilder: &'r Rebuilder,
    starts: &[CommitId],
) -> impl Iterator<Item = Result<Past>> + use<'r> {
    let mut open: BinaryHeap<(i64, Reverse<CommitId>)> = BinaryHeap::new();
    let mut read: HashMap<CommitId, Commit> = HashMap::new();
    let mut seen = HashSet::new();
    let mut next = starts.to_vec();
    std::iter::from_fn(move || {
        for id in next.drain(..) {
            if !seen.insert(id) {
                continue;
            }
            match rebuilder.object::<Commit>(&id) {
                Ok(commit) => {
                    open.push((commit.time, Reverse(id)));
                    read.insert(id, commit);
                }
                Err(error) => {
                    open.clear();
                    return Some(Err(error));
                }
            }
        }
        let (_, Reverse(id)) = open.pop()?;
        let commit = read.remove(&id)?;
        next.clone_from(&commit.parents);
        Some(Ok(Past { id, commit }))
    })
}

/// The whole history in an order for drawing: no parent before all of its children, whatever
/// their clocks said; lines of development are kept together.
///
/// # Errors
/// Commits that are missing or damaged.
pub fn by_ancestry(rebuilder: &Rebuilder, starts: &[CommitId]) -> Result<Vec<Past>> {
    let mut commits = HashMap::new();
    let mut children: HashMap<CommitId, usize> = HashMap::new();
    for past in walk(rebuilder, starts) {
        let past = past?;
        for parent in &past.commit.parents {
            *children.entry(*parent).or_default() += 1;
        }
        commits.insert(past.id, past.commit);
    }
    let mut ordered = Vec::with_capacity(commits.len());
    let mut free = starts.to_vec();
    free.retain(|id| !children.contains_key(id));
    free.sort_by_key(|id| (commits.get(id).map(|commit| commit.time), *id));
    while let Some(id) = free.pop() {
        let Some(commit) = commits.remove(&id) else {
            continue;
        };
        let mut ready = Vec::new();
        for parent in &commit.parents {
            if let Some(count) = children.get_mut(parent) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    ready.push(*parent);
                }
            }
        }
        // The newest is popped first.
        ready.sort_by_key(|id| (commits.get(id).map(|commit| commit.time), *id));
        free.extend(ready);
        ordered.push(Past { id, commit });
    }
    Ok(ordered)
}

/// The lines of a drawing of who comes from whom.
#[derive(Debug, Default)]
pub struct Graph {
    /// What each column leads down to.
    lanes: Vec<CommitId>,
}

/// How a commit is drawn: what stands before its first line, then before the following ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// Before the commit's first line.
    pub node: String,
    /// Rows in which columns meet or part, before the lines that follow.
    pub turns: Vec<String>,
    /// Before all further lines.
    pub rest: String,
}

impl Graph {
    /// Draws the next commit; its children must have been drawn before.
    pub fn draw(&mut self, id: CommitId, parents: &[CommitId]) -> Drawn {
        let at = self.lanes.iter().position(|lane| *lane == id);
        let at = at.unwrap_or_else(|| {
            self.lanes.push(id);
            self.lanes.len() - 1
        });
        let node = self.row(|lane| if lane == at { '*' } else { '|' });
        let mut turns = Vec::new();
        for parent in parents.iter().skip(1) {
            self.part(at, *parent, &mut turns);
        }
        match parents.first() {
            Some(parent) => self.follow(at, *parent, &mut turns),
            None => {
                if at + 1 < self.lanes.len() {
                    turns.push(self.shifted(at, ' '));
                }
                self.lanes.remove(at);
            }
        }
        Drawn {
            node,
            turns,
            rest: self.row(|_| '|'),
        }
    }

    /// A further parent gets a column beside the commit's, or a line to its own.
    fn part(&mut self, at: usize, parent: CommitId, turns: &mut Vec<String>) {
        match self.lanes.iter().position(|lane| *lane == parent) {
            Some(there) if there > at => {
                turns.extend((at..there).map(|lane| self.crossed(lane, '\\')));
            }
            Some(there) => {
                turns.extend((there..at).rev().map(|lane| self.crossed(lane, '/')));
            }
            None => {
                let mut row = String::new();
                for lane in 0..self.lanes.len() {
                    row.push_str(if lane <= at { "|" } else { " " });
                    row.push(if lane >= at { '\\' } else { ' ' });
                }
                turns.push(row.trim_end().to_owned());
                self.lanes.insert(at + 1, parent);
            }
        }
    }

    /// The commit's column leads to its first parent; two columns that lead to one become one.
    fn follow(&mut self, at: usize, parent: CommitId, turns: &mut Vec<String>) {
        let there = self
            .lanes
            .iter()
            .enumerate()
            .position(|(lane, id)| lane != at && *id == parent);
        if let Some(lane) = self.lanes.get_mut(at) {
            *lane = parent;
        }
        let Some(there) = there else {
            return;
        };
        let (left, right) = (at.min(there), at.max(there));
        turns.push(self.shifted(right, '/'));
        self.lanes.remove(right);
        turns.extend((left..right - 1).rev().map(|lane| self.crossed(lane, '/')));
    }

    fn row(&self, sign: impl Fn(usize) -> char) -> String {
        let signs = (0..self.lanes.len()).map(|lane| sign(lane).to_string());
        signs.collect::<Vec<_>>().join(" ")
    }

    /// A row in which a line goes between column `lane` and the next one.
    fn crossed(&self, lane: usize, sign: char) -> String {
        let mut row = String::new();
        for column in 0..self.lanes.len() {
            row.push('|');
            row.push(if column == lane { sign } else { ' ' });
        }
        row.trim_end().to_owned()
    }

    /// A row in which column `gone` ends, with this sign, and the columns right of it move left.
    fn shifted(&self, gone: usize, sign: char) -> String {
        let mut row = String::new();
        for lane in 0..self.lanes.len() {
            if lane > 0 {
                row.push(match lane.cmp(&gone) {
                    std::cmp::Ordering::Less => ' ',
                    std::cmp::Ordering::Equal => sign,
                    std::cmp::Ordering::Greater => '/',
                });
            }
            row.push(if lane < gone { '|' } else { ' ' });
        }
        row.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws commits named by letters, with their parents.
    fn drawn(history: &[(&str, &str)]) -> String {
        let id = |letter: char| CommitId::of(&[letter as u8]);
        let mut graph = Graph::default();
        let mut lines = Vec::new();
        for (name, parents) in history {
            let parents: Vec<_> = parents.chars().map(id).collect();
            let row = graph.draw(id(name.chars().next().unwrap()), &parents);
            lines.push(format!("{} {name}", row.node));
            lines.extend(row.turns);
        }
        lines.join("\n")
    }

    #[test]
    fn a_line_is_a_column_of_stars() {
        assert_eq!(drawn(&[("c", "b"), ("b", "a"), ("a", "")]), "* c\n* b\n* a");
    }

    #[test]
    fn a_merge_parts_and_meets() {
        let history = [("d", "bc"), ("c", "a"), ("b", "a"), ("a", "")];
        assert_eq!(drawn(&history), "* d\n|\\\n| * c\n* | b\n|/\n* a");
    }

    #[test]
    fn lines_cross_where_they_must() {
        let history = [("e", "dcb"), ("b", "a"), ("c", "a"), ("d", "a"), ("a", "")];
        assert_eq!(
            drawn(&history),
            "* e\n|\\\n|\\ \\\n| * | b\n| | * c\n| |/\n* | d\n|/\n* a"
        );
    }

    #[test]
    fn a_root_frees_its_column() {
        let history = [("d", "bc"), ("b", ""), ("c", "a"), ("a", "")];
        assert_eq!(drawn(&history), "* d\n|\\\n* | b\n /\n* c\n* a");
    }
}
