-- load: lease entries that were claimed, and read the tasks of the first of them: as many as there is room for, one at least.
-- KEYS   queue, entries, tasks, failures
-- ARGV   group, consumer, idle time that the lease starts at (ms), lowest id, highest id, room (bytes of records),
--        then the entry ids, at most a few hundred, then their task keys in the same order
-- Returns per entry that was read: record, failure or false; false, false where the entry is not this consumer's any more,
--        or not the task's: cancelled, updated or taken over since.
-- Twice  the lease starts again.
--- include lease renewal records
local queue, entries, tasks, failures = unpack(KEYS)
local group, consumer, idle_ms, lowest, highest, room = unpack(ARGV, 1, 6)
local count = (#ARGV - 6) / 2
local ids, keys = {unpack(ARGV, 7, 6 + count)}, {unpack(ARGV, 7 + count)}

local is_held = {}
for _, id in ipairs(renewed(queue, group, consumer, idle_ms, lowest, highest, ids)) do
  is_held[id] = true
end
return records_of(entries, tasks, failures, ids, keys, is_held, tonumber(room))
