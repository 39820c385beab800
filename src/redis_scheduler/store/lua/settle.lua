-- settle: forget delivered tasks, at most a few hundred a call. A success is a success, whoever owns the entry by now:
-- the fence is only that the task is still in this entry.
-- KEYS   queue entries tasks failures counters types type_index...
-- ARGV   group types...
-- each   id (of the entry) key type_number
-- Returns per task 1 settled, 0 fenced: cancelled, updated, deferred or settled before.
-- Bounds 200 tasks a call, some four commands each.
-- Twice  the second time the entry is gone: 0, nothing is counted again.
-- Full   XACK is the first write.
--- include types foreign
--- names

local answer, ids, keys, typed = {}, {}, {}, {}
for at = first, #ARGV, width do
  --- row
  local is_in_entry = redis.call('HGET', entries, key) == id
  answer[#answer + 1] = is_in_entry and 1 or 0
  if is_in_entry then
    ids[#ids + 1] = id
    keys[#keys + 1] = key
    if type_number ~= '0' then
      typed[#typed + 1] = at
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
for _, at in ipairs(typed) do
  --- row key type_number
  local index, name = type_of(type_number)
  remove_from_type(types, index, name, key)
end
add_to_counter(counters, 'delivered', delivered)
return answer
