-- schedule_once: store new tasks, each once for its idempotency id: what an earlier request stored for the same id and
-- content is answered again. A token has no more ids than are still free for others.
-- KEYS   tasks due queue entries held counters types bell idempotency idempotency_ends type_index...
-- ARGV   kept_ms# (how long an id is kept) most# (ids) group queued_most# (entries that nobody has claimed, for tasks
--        of tokens) types...
-- each   id mac (of the request's content) key delay_ms (below 0: due_after.lua) tail (the record less its due time)
--        type_number ids_type_number (the hash that counts the ids of its token: Keys.ids_of)
-- Returns per task '<key> <due ms>': of this task, or of the one that was stored before; 'X' if that had another
--        content, 'F' if as many ids are kept as may be, 'T' if as many of its token.
-- Bounds 200 tasks a call, some seven commands each; for each new id two that have ended are removed. Of each token a
--        hash of some twenty numbers.
-- Twice  an id is kept with the key of its task: a resend finds its own, even if the task was delivered meanwhile.
-- Full   the first write grows: refused, nothing is written.
--- include clock due_after types bell foreign turns crowd
--- names

-- A foreign key in one of their places fails here, before any write.
redis.call('HLEN', tasks)
redis.call('HLEN', entries)
redis.call('HLEN', idempotency)
redis.call('XLEN', queue)
local now = now_ms(math.ceil)
local now_text = string.format('%.0f', now)
local room = most - redis.call('ZCOUNT', idempotency_ends, '(' .. now_text, '+inf')
local head_before_ms, earliest_ms = head_ms(due), math.huge

-- When ids end, a count of them does: rounded up to a sixteenth of the time that they are kept.
local step_ms = math.max(1, math.ceil(kept_ms / 16))
local end_of_count = string.format('%.0f', math.ceil((now + kept_ms) / step_ms) * step_ms)
local own, ended_counts = {}, {}

-- How many ids of a token are kept. After a purge its counts exceed all that is kept; a foreign key counts none.
local function own_ids(counts)
  if not own[counts] then
    local fields, ended, sum = redis.pcall('HGETALL', counts), {}, 0
    for at = 1, #fields, 2 do
      local is_live = (tonumber(fields[at]) or 0) > now
      sum = sum + (is_live and tonumber(fields[at + 1]) or 0)
      if not is_live then
        ended[#ended + 1] = fields[at]
      end
    end
    own[counts], ended_counts[counts] = math.min(sum, most - room), ended
  end
  return own[counts]
end

local ids = {}
for at = first, #ARGV, width do
  --- row id
  ids[#ids + 1] = id
end
local kept = redis.call('HMGET', idempotency, unpack(ids))

local answer, entering, due_at, value_of_id, entering_of = {}, {}, {}, {}, {}
for number, id in ipairs(ids) do
  local at = first + (number - 1) * width
  --- row mac key delay_ms ids_type_number
  local counts = ids_type_number ~= '0' and type_of(ids_type_number)
  local value = value_of_id[id] or kept[number]
  if value and not value_of_id[id] then
    local end_ms = redis.call('ZSCORE', idempotency_ends, id)
    value = (not end_ms or tonumber(end_ms) > now) and value
  end
  -- What no script wrote there is written anew.
  local kept_mac, stored = string.match(value or '', '^(%S+) (%S+ %d+)$')
  if not stored and room <= 0 then
    stored = 'F'
  elseif not stored and counts and own_ids(counts) >= room then
    stored = 'T'
  elseif not stored then
    room = room - 1
    if counts then
      own[counts], entering_of[counts] = own[counts] + 1, (entering_of[counts] or 0) + 1
    end
    due_at[at] = due_after(now, delay_ms)
    stored = string.format('%s %.0f', key, due_at[at])
    value_of_id[id] = mac .. ' ' .. stored
    entering[#entering + 1] = at
  elseif kept_mac ~= mac then
    stored = 'X'
  end
  answer[#answer + 1] = stored
end
if #entering == 0 then
  return answer
end

-- XADD before all else: Redis refuses it behind a foreign entry with the last possible id.
local queued, later, records, values, ends = {}, {}, {}, {}, {}
local must_wait = crowd(held, queue, group, queued_most, #entering)
local end_ms = string.format('%.0f', now + kept_ms)
for _, at in ipairs(entering) do
  --- row id key tail type_number
  if due_at[at] > now or type_number ~= '0' and must_wait(type_of(string.match(type_number, '%d+$'))) then
    later[#later + 1] = due_at[at]
    later[#later + 1] = key
    earliest_ms = math.min(earliest_ms, due_at[at])
  else
    queued[#queued + 1] = key
    queued[#queued + 1] = redis.call('XADD', queue, '*', 'key', key)
  end
  records[#records + 1] = key
  records[#records + 1] = string.format('{"due":%.0f', due_at[at]) .. tail
  values[#values + 1] = id
  values[#values + 1] = value_of_id[id]
  ends[#ends + 1] = end_ms
  ends[#ends + 1] = id
end
redis.call('HSET', tasks, unpack(records))
if #queued > 0 then
  redis.call('HSET', entries, unpack(queued))
end
if #later > 0 then
  redis.call('ZADD', due, unpack(later))
end
redis.call('HSET', idempotency, unpack(values))
redis.call('ZADD', idempotency_ends, unpack(ends))
for counts, count in pairs(entering_of) do
  if type(redis.pcall('HINCRBY', counts, end_of_count, count)) == 'number' then
    redis.call('PEXPIRE', counts, string.format('%.0f', kept_ms + step_ms))
    if #ended_counts[counts] > 0 then
      redis.call('HDEL', counts, unpack(ended_counts[counts]))
    end
  end
end
for _, at in ipairs(entering) do
  --- row key type_number
  if type_number ~= '0' then
    add_to_types(tasks, types, type_of, type_number, key, due_at[at])
  end
end
add_to_counter(counters, 'scheduled', #entering)
ring(bell, head_before_ms, earliest_ms)
local ended = redis.call('ZRANGEBYSCORE', idempotency_ends, '-inf', now_text, 'LIMIT', 0, 2 * #entering)
if #ended > 0 then
  redis.call('HDEL', idempotency, unpack(ended))
  redis.call('ZREM', idempotency_ends, unpack(ended))
end
return answer
