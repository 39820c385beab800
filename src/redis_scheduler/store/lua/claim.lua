-- claim: claim entries that nobody has, lease them, and read the tasks of the first of them, as many as there is room
-- for: so none is left without a lease by a worker that dies. With them one that this consumer has waited for.
-- KEYS   queue entries tasks failures
-- ARGV   limit# (entries at most, besides that) group consumer idle_ms (that the lease starts at)
--        room# (bytes of records and failures: once it is used up, nothing more is read)
--        waited (the id of the entry that a claim which waited has brought; '' for none) waited_key (its task)
-- Returns {now ms, {entry id, key, record, failure or false, ...}, {entry id, key, ...} (claimed, and not read: for
--        `load`, which says why, if there was room)}. The entry that was waited for is first, if it is still this
--        consumer's.
-- Bounds 200 entries, the room and one record.
-- Twice  a resend claims others; what the first claimed is listed under the consumer's pending entries.
-- Full   XREADGROUP or XCLAIM is the first write.
--- include clock lease
--- names
-- Read before any write, since they may be foreign keys.
redis.call('HLEN', entries)
redis.call('HLEN', tasks)
redis.call('HLEN', failures)
local ids, task_keys = {}, {}
if waited ~= '' and redis.call('XPENDING', queue, group, waited, waited, 1, consumer)[1] then
  ids[1], task_keys[1] = waited, waited_key
end
local read = limit > 0
  and redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', limit, 'STREAMS', queue, '>')
for _, entry in ipairs(read and read[1][2] or {}) do
  ids[#ids + 1] = entry[1]
  task_keys[#task_keys + 1] = entry[2][2]
end
if #ids == 0 then
  return {now_ms(math.floor), {}, {}}
end

lease(queue, group, consumer, idle_ms, ids)
local current = redis.call('HMGET', entries, unpack(task_keys))
local failed = redis.call('HMGET', failures, unpack(task_keys))
local claims, rest = {}, {}
for i, id in ipairs(ids) do
  local record = room > 0 and current[i] == id and redis.call('HGET', tasks, task_keys[i])
  if record then
    room = room - #record - (failed[i] and #failed[i] or 0)
    claims[#claims + 1] = id
    claims[#claims + 1] = task_keys[i]
    claims[#claims + 1] = record
    claims[#claims + 1] = failed[i]
  else
    rest[#rest + 1] = id
    rest[#rest + 1] = task_keys[i]
  end
end
return {now_ms(math.floor), claims, rest}
