//! Order of the processes in the tree. Pure.

use std::collections::HashMap;

/// Position of a process in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProcessNode {
    pub(super) pid: u32,
    pub(super) parent: u32,
    pub(super) start_ticks: u64,
}

/// A process below the roots, by the index of its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Descendant {
    pub(super) node_index: usize,
    /// Number of processes in the subtree of this process, itself included.
    pub(super) subtree_size: usize,
}

/// Returns everything below `roots`, without the roots themselves. Parents come before children, older children first,
/// and the processes of a subtree are consecutive.
///
/// A chain of parents can be broken or circular, because it changes while it is read. Such processes are left out.
pub(super) fn descendants(roots: impl IntoIterator<Item = u32>, nodes: &[ProcessNode]) -> Vec<Descendant> {
    let mut children: HashMap<u32, Vec<usize>> = HashMap::new();
    for (index, node) in nodes.iter().enumerate() {
        children.entry(node.parent).or_default().push(index);
    }
    let mut take_children = |pid: u32| {
        let mut indexes = children.remove(&pid).unwrap_or_default();
        // A stack returns the last entry first.
        indexes
            .sort_unstable_by_key(|index| std::cmp::Reverse((nodes[*index].start_ticks, nodes[*index].pid)));
        indexes
    };
    let mut order: Vec<Descendant> = Vec::new();
    // Each process is removed from `children` once, so a circle ends.
    let mut parents: Vec<Option<usize>> = Vec::new();
    let mut stack = Vec::new();
    for root in roots {
        stack.extend(take_children(root).into_iter().map(|index| (index, None)));
        while let Some((index, parent)) = stack.pop() {
            let position = order.len();
            order.push(Descendant { node_index: index, subtree_size: 1 });
            parents.push(parent);
            stack.extend(take_children(nodes[index].pid).into_iter().map(|child| (child, Some(position))));
        }
    }
    for at in (0..order.len()).rev() {
        if let Some(parent) = parents[at] {
            order[parent].subtree_size += order[at].subtree_size;
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(rows: &[(u32, u32, u64)]) -> Vec<ProcessNode> {
        rows.iter().map(|&(pid, parent, started)| ProcessNode { pid, parent, start_ticks: started }).collect()
    }

    fn pids_and_sizes(roots: &[u32], rows: &[(u32, u32, u64)]) -> Vec<(u32, usize)> {
        let descendants = descendants(roots.iter().copied(), &nodes(rows));
        descendants.into_iter().map(|found| (rows[found.node_index].0, found.subtree_size)).collect()
    }

    #[test]
    fn parents_come_before_children_and_the_older_child_first() {
        let rows = [(9, 5, 50), (5, 1, 10), (3, 5, 60), (7, 1, 5), (8, 9, 55), (2, 4, 1)];
        assert_eq!(pids_and_sizes(&[1], &rows), [(7, 1), (5, 4), (9, 2), (8, 1), (3, 1)]);
        assert_eq!(pids_and_sizes(&[5, 4], &rows), [(9, 2), (8, 1), (3, 1), (2, 1)]);
    }

    #[test]
    fn circles_and_broken_chains_are_left_out() {
        assert_eq!(pids_and_sizes(&[1], &[(2, 3, 1), (3, 2, 1), (4, 77, 1), (5, 5, 1)]), []);
        assert_eq!(pids_and_sizes(&[2], &[(2, 3, 1), (3, 2, 1)]), [(3, 2), (2, 1)]);
    }

    #[test]
    fn a_chain_of_a_hundred_thousand_processes_needs_no_recursion() {
        let rows: Vec<_> = (2..100_002).map(|pid| (pid, pid - 1, u64::from(pid))).collect();
        assert_eq!(pids_and_sizes(&[1], &rows).first(), Some(&(2, 100_000)));
    }
}
