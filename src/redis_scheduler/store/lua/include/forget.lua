-- Forget the tasks `keys`, which stand in the entries `ids`; `typed` has the rows of those with a type. `forgotten` is
-- how many there were: what stands twice in a call is counted once.
redis.call('XACK', queue, group, unpack(ids))
redis.call('XDEL', queue, unpack(ids))
local forgotten = redis.call('HDEL', entries, unpack(keys))
remove_from_hash(tasks, unpack(keys))
remove_from_hash(failures, unpack(keys))
for _, at in ipairs(typed) do
  --- row key type_number
  remove_from_types(types, type_of, type_number, key)
end
