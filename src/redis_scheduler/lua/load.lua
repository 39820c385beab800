-- load: lease entries that were claimed, and read their tasks, at most a few hundred a call.
-- KEYS   queue, entries, tasks, failures
-- ARGV   group, consumer, idle time that the lease starts at (ms), lowest id, highest id, then the entry ids, then their
--        task keys in the same order
-- Returns per entry: record, failure or false; false, false where the entry is not this consumer's any more, or not the
--        task's: cancelled, updated or taken over since.
-- Twice  the lease starts again.
--- include renewal
local queue, entries, tasks, failures = unpack(KEYS)
local group, consumer, idle_ms, lowest, highest = unpack(ARGV, 1, 5)
local count = (#ARGV - 5) / 2
local ids, keys = {unpack(ARGV, 6, 5 + count)}, {unpack(ARGV, 6 + count)}

local is_held = {}
for _, id in ipairs(renewed(queue, group, consumer, idle_ms, lowest, highest, ids)) do
  is_held[id] = true
end
local current = redis.call('HMGET', entries, unpack(keys))
local records = redis.call('HMGET', tasks, unpack(keys))
local failed = redis.call('HMGET', failures, unpack(keys))

local answer = {}
for i, id in ipairs(ids) do
  local is_loaded = is_held[id] ~= nil and current[i] == id
  answer[2 * i - 1] = is_loaded and records[i]
  answer[2 * i] = is_loaded and failed[i]
end
return answer
