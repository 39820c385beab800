-- promote_in_turn: as promote, where tokens with rights are in use. The queue is kept short: what is due goes straight
-- there only if it fits, and nothing waits already; else behind the last in the line of its token. While there is room
-- in the queue these lines take turns. So a token's task waits for no more of another's than stand in the queue, and
-- for one turn of each.
-- KEYS   due queue entries tasks failures pause_all held sweep
-- ARGV   limit most_claims# (0: none) group consumer idle_ms (that the lease starts at)
--        room# (bytes of records and failures: once it is used up, no more is claimed) queued_most# (entries that
--        nobody has claimed) in_turn_most# (tasks of a turn) read_most# (bytes of records: once they are read, no more
--        is put into lines) interval_us# (from one call to the next while lines stand, of two workers)
-- Returns as promote: {moved out of `due`, us until the next call is due or -1, now ms, {entry id, key, record, failure
--        or false, ...}}.
-- Bounds `limit` tasks out of `due`, about two commands each where they go into lines, and `queued_most` into the
--        queue; of records `read_most` bytes and one record; of entries 50, and the room and one record.
-- Twice  what moved is no longer in due, nor in its line: a resend moves the next ones. What the first claimed is
--        listed under the consumer's pending entries.
-- Full   ZREM or HDEL of nothing is the first write.
--- include clock lease claim_oldest foreign ours queue_all turns owner
--- names
local now = now_us()
if redis.call('GET', pause_all) then
  return {-1, -1, math.floor(now / 1000), {}}
end
-- Foreign keys in their places fail here, before any write.
refuse_foreign({entries, tasks, sweep}, {held})
local queued_before, consumers = unclaimed(queue, group)
local left = queued_most - queued_before
local is_waiting, turn = has_lines(held), redis.call('HGET', sweep, 'turn')
local keys = redis.call('ZRANGEBYSCORE', due, '-inf', math.floor(now / 1000), 'LIMIT', 0, limit)

-- The count behind the last in a line.
local function next_count(line)
  local rank = redis.call('ZCOUNT', held, '-inf', '(' .. turn_score(line + 1, 0)) - 1
  local last = rank >= 0 and redis.call('ZRANGE', held, rank, rank, 'WITHSCORES')[2]
  return last and turn_of(last) == line and last - turn_score(line, 0) + 1 or 0
end

local function put_into_lines()
  redis.call('ZREM', due, '')
  local counts, scores, sorted = {}, {}, {}
  for _, key in ipairs(keys) do
    local record = redis.call('HGET', tasks, key) or ''
    local line = tonumber(string.sub(owner_of(record) or '0', 1, ID_DIGITS), 16)
    counts[line] = counts[line] or next_count(line)
    scores[#scores + 1] = turn_score(line, counts[line])
    scores[#scores + 1] = key
    sorted[#sorted + 1] = key
    counts[line] = counts[line] + 1
    read_most = read_most - #record
    if read_most <= 0 then
      break
    end
  end
  redis.call('ZADD', held, unpack(scores))
  redis.call('ZREM', due, unpack(sorted))
  if not turn then
    redis.call('HSET', sweep, 'turn', 0)  -- by which looks tell other workers
  end
  return #sorted
end

local moved, queued, failed = #keys, 0, nil
if #keys > 0 and not is_waiting and #keys <= left then
  failed, queued = queue_all(due, queue, entries, keys), #keys
elseif #keys > 0 then
  moved, is_waiting = put_into_lines(), true
end
local line = number_of(turn)
while is_waiting and queued < left and not failed do
  local rows = redis.call('ZRANGEBYSCORE', held, turn_score(line, 0), '(0', 'WITHSCORES', 'LIMIT', 0,
    math.min(in_turn_most, left - queued))
  if rows[1] then
    line = turn_of(rows[2])
    local of_line = {}
    for at = 1, #rows, 2 do
      of_line[#of_line + 1] = turn_of(rows[at + 1]) == line and rows[at] or nil
    end
    failed = queue_all(held, queue, entries, of_line)
    line, queued = line + 1, queued + #of_line
  elseif line > 0 then
    line = 0
  else
    break
  end
end
if failed then
  return failed
end
is_waiting = is_waiting and has_lines(held)
local next_turn = is_waiting and string.format('%.0f', line)
if next_turn and next_turn ~= turn then
  redis.call('HDEL', sweep, '')
  redis.call('HSET', sweep, 'turn', next_turn)
elseif turn and not is_waiting then
  redis.call('HDEL', sweep, 'turn')
end
local head = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')
local wait_us = head[2] and math.max(0, head[2] * 1000 - now) or -1
if is_waiting then
  -- However many workers there are, together they call as often as two.
  local turn_us = math.ceil(interval_us * math.max(1, consumers / 2))
  wait_us = wait_us < 0 and turn_us or math.min(wait_us, turn_us)
end
local most = math.min(queued, most_claims)
local claims = claim_oldest(queue, entries, tasks, failures, group, consumer, idle_ms, most, room)
return {moved, wait_us, math.floor(now / 1000), claims}
