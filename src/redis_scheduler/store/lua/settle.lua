-- settle: forget delivered tasks, at most a few hundred a call. A success is a success, whoever owns the entry by now:
-- the fence is only that the task is still in this entry.
-- KEYS   queue, entries, tasks, failures, counters, types, then the index of each type named
-- ARGV   group, number of types, their names, then per task: entry id, key, type (its number above, or 0)
-- Returns per task 1 settled, 0 fenced: cancelled, updated, deferred or settled before.
-- Bounds 200 tasks a call, some four commands each.
-- Twice  the second time the entry is gone: 0, nothing is counted again.
-- Full   XACK is the first write.
--- include types foreign
local queue, entries, tasks, failures, counters, types = unpack(KEYS, 1, 6)
local group, type_count = ARGV[1], tonumber(ARGV[2])

local answer, ids, keys, typed = {}, {}, {}, {}
for i = 3 + type_count, #ARGV, 3 do
  local id, key = ARGV[i], ARGV[i + 1]
  local is_in_entry = redis.call('HGET', entries, key) == id
  answer[#answer + 1] = is_in_entry and 1 or 0
  if is_in_entry then
    ids[#ids + 1] = id
    keys[#keys + 1] = key
    if ARGV[i + 2] ~= '0' then
      typed[#typed + 1] = i
    end
  end
end
if #ids == 0 then
  return answer
end

redis.call('XACK', queue, group, unpack(ids))
redis.call('XDEL', queue, unpack(ids))
-- What stands twice in a call is counted once.
local delivered = redis.call('HDEL', entries, unpack(keys))
remove_from_hash(tasks, unpack(keys))
remove_from_hash(failures, unpack(keys))
for _, i in ipairs(typed) do
  local type_number = tonumber(ARGV[i + 2])
  remove_from_type(types, KEYS[6 + type_number], ARGV[2 + type_number], ARGV[i + 1])
end
add_to_counter(counters, 'delivered', delivered)
return answer
