use super::*;

#[test]
fn what_is_in_a_cache_is_got_back() {
    let mut cache = Cache::new(10);
    cache.insert(1, "one", 4);
    assert_eq!((cache.get(&1), cache.get(&2)), (Some("one"), None));
}

#[test]
fn a_full_cache_lets_go_of_what_was_not_used_longest() {
    let mut cache = Cache::new(3);
    for key in 1..=3 {
        cache.insert(key, key, 1);
    }
    cache.get(&1);
    cache.insert(4, 4, 1);
    let kept: Vec<i32> = (1..=4).filter_map(|key| cache.get(&key)).collect();
    assert_eq!(kept, [1, 3, 4]);
}

#[test]
fn a_large_entry_makes_room_of_many_small_ones() {
    let mut cache = Cache::new(10);
    for key in 1..=5 {
        cache.insert(key, key, 2);
    }
    cache.insert(6, 6, 7);
    assert_eq!(
        (cache.used, cache.get(&4), cache.get(&6)),
        (9, None, Some(6))
    );
}

#[test]
fn an_entry_that_is_inserted_again_is_counted_once() {
    let mut cache = Cache::new(10);
    cache.insert(1, "old", 6);
    cache.insert(1, "new", 5);
    assert_eq!((cache.used, cache.get(&1)), (5, Some("new")));
}

#[test]
fn what_costs_more_than_the_whole_cache_is_not_kept() {
    let mut cache = Cache::new(10);
    cache.insert(1, "small", 5);
    cache.insert(2, "huge", 11);
    assert_eq!(
        (cache.used, cache.get(&1), cache.get(&2)),
        (5, Some("small"), None)
    );
}

#[test]
fn an_entry_that_is_removed_costs_nothing_any_more() {
    let mut cache = Cache::new(10);
    cache.insert(1, (), 5);
    cache.insert(2, (), 5);
    cache.remove_where(|key| *key == 1);
    cache.remove(&7);
    assert_eq!(
        (cache.used, cache.get(&1), cache.get(&2)),
        (5, None, Some(()))
    );
    assert_eq!(cache.order.len(), 1);
}
