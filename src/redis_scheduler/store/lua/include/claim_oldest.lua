-- Claims the oldest entries of the queue for this consumer, `most` at most, leases them, and reads their tasks, as many
-- as there is room for; to be included after `lease`. Returns {entry id, key, record, failure or false, ...}.
local function claim_oldest(queue, entries, tasks, failures, group, consumer, idle_ms, most, room)
  local ids, claims = {}, {}
  while #ids < most and room > 0 do
    -- Last: without the group it fails, and all before it stays.
    local read = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', 1, 'STREAMS', queue, '>')
    if not read then
      break
    end
    local id, key = read[1][2][1][1], read[1][2][1][2][2]
    ids[#ids + 1] = id
    local record = redis.call('HGET', entries, key) == id and redis.pcall('HGET', tasks, key)
    local failure = record and redis.pcall('HGET', failures, key)
    -- An entry that cannot be read stays pending for this consumer, whose next load says why.
    if type(record) == 'string' and type(failure) ~= 'table' then
      room = room - #record - (failure and #failure or 0)
      claims[#claims + 1] = id
      claims[#claims + 1] = key
      claims[#claims + 1] = record
      claims[#claims + 1] = failure
    end
  end
  if #ids > 0 then
    lease(queue, group, consumer, idle_ms, ids)
  end
  return claims
end
