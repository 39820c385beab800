-- fire: a series has come due. Put its occurrences into the queue, each a task of its own, and the series back into
-- `due` until its next time; or end it, and keep a summary of it for a while.
-- KEYS   queue entries tasks failures due dead counters types bell results segment... type_index...
-- ARGV   group consumer result_ttl_ms# result_bytes# (of all summaries) then_count# types...
-- each   id (of the entry) key attempts# (seen at the claim) next_ms ('' ends the series) tail (the record less its due
--        time) unless (the key of a task: while it is unfinished no occurrence is made; '' makes them in any case)
--        other_next_ms other_tail (instead, where none is made) result other_result (of a series that ends: its
--        summary less when that was) type_number
-- then   item# (number of the row that makes it, from 1) key due_ms (the intended time) tail type_number
-- Returns per series 2 its occurrences are made, 1 they are not: the one before is unfinished; 0 fenced.
-- Bounds 200 series a call, some four commands each, four for the summaries, and as many occurrences, or one series
--        with 100: their records come with the call.
-- Twice  the entry is gone: 0, nothing is made again.
-- Full   XDEL of nothing is the first write: a series that is due was acknowledged, and its occurrences with it.
--- include clock fence types foreign bell results
--- names

-- A foreign key in their places is refused here, before anything is written.
redis.call('HLEN', tasks)
local head_before_ms, earliest_ms, ended_ms, kept = head_ms(due), math.huge, now_ms(math.floor), {}

local function is_unfinished(key)
  return key ~= '' and redis.call('HEXISTS', tasks, key) == 1 and type(redis.pcall('ZSCORE', dead, key)) ~= 'string'
end

local answer, is_met = {}, {}
for at = first, last, width do
  --- row id key attempts unless
  local is_held = not is_met[key] and holds(queue, entries, failures, group, consumer, id, key, attempts)
  is_met[key] = true
  answer[#answer + 1] = is_held and (is_unfinished(unless) and 1 or 2) or 0
end

-- This removes nothing, so that a full Redis does not refuse what follows.
redis.call('XDEL', queue, '0-0')
local queued, records, listed = {}, {}, {}
for at = last + 1, #ARGV, then_width do
  --- then
  if answer[item] == 2 then
    -- Before all else: Redis refuses it behind a foreign entry with the last possible id.
    queued[#queued + 1] = key
    queued[#queued + 1] = redis.call('XADD', queue, '*', 'key', key)
    records[#records + 1] = key
    records[#records + 1] = '{"due":' .. due_ms .. tail
    if type_number ~= '0' then
      listed[#listed + 1] = {type_number, key, due_ms}
    end
  end
end
if then_count > 0 and #queued > 0 then
  redis.call('HSET', entries, unpack(queued))
  redis.call('HSET', tasks, unpack(records))
end

local number, ids, fired, ended, next_times = 0, {}, {}, {}, {}
records = {}
for at = first, last, width do
  --- row id key next_ms tail other_next_ms other_tail result other_result type_number
  number = number + 1
  if answer[number] ~= 0 then
    if answer[number] == 1 then
      next_ms, tail, result = other_next_ms, other_tail, other_result
    end
    ids[#ids + 1] = id
    fired[#fired + 1] = key
    if next_ms == '' then
      ended[#ended + 1] = key
      add_result(kept, key, result, ended_ms)
      if type_number ~= '0' then
        remove_from_types(types, type_of, type_number, key)
      end
    else
      records[#records + 1] = key
      records[#records + 1] = '{"due":' .. next_ms .. tail
      next_times[#next_times + 1] = next_ms
      next_times[#next_times + 1] = key
      earliest_ms = math.min(earliest_ms, next_ms)
      if type_number ~= '0' then
        listed[#listed + 1] = {type_number, key, next_ms}
      end
    end
  end
end
if #ids == 0 then
  return answer
end
redis.call('XACK', queue, group, unpack(ids))
redis.call('XDEL', queue, unpack(ids))
redis.call('HDEL', entries, unpack(fired))
remove_from_hash(failures, unpack(fired))
if #ended > 0 then
  redis.call('HDEL', tasks, unpack(ended))
  add_to_counter(counters, 'ended', #ended)
end
if #records > 0 then
  redis.call('HSET', tasks, unpack(records))
  redis.call('ZADD', due, unpack(next_times))
end
for _, task in ipairs(listed) do
  add_to_types(tasks, types, type_of, task[1], task[2], task[3])
end
if #queued > 0 then
  add_to_counter(counters, 'scheduled', #queued / 2)
end
keep_results(kept, results, segment_of, counters, ended_ms, result_ttl_ms, result_bytes)
ring(bell, head_before_ms, earliest_ms)
return answer
