-- admit: let held tasks come into the queue, each with a permit, as far as their limits have room: those of the lines
-- whose permits have ended, and, once a round is due, those of the next lines. Where the round stands is kept in Redis:
-- so all workers together make one.
-- KEYS   queue entries held lines permits limits breakers sweep pause_all
-- ARGV   most# (tasks to admit) most_lines# (to look at) round_ms# (from one round to the next) permit_ms# (that a
--        permit lasts without a renewal) default_concurrency# (0: none) default_gap_ms# (from one attempt to the next;
--        0: no rate) part# parts# (of each limit, that this shard has) gap_most_ms# (between probes of a host)
--        held_most_ms# (that a breaker holds a task) random# (at least 0, below 1) ended... (keys of tasks whose
--        attempts have ended)
-- Returns {tasks admitted, tasks still held, ms until the next step}.
-- Bounds `most` tasks, 200; 50 lines; 200 that have ended; and a look at ten lines for one that is no longer needed.
-- Twice  what was admitted is held no more: a resend admits the next ones, as another worker would.
-- Full   ZREM of nothing is the first write.
--- include clock foreign ours queued_from lines kept_line limits breakers
--- names
local now = now_ms(math.floor)
-- Foreign keys in their places fail here, before any write.
refuse_foreign({entries, lines, limits, breakers}, {permits})
redis.call('XLEN', queue)
local state = redis.call('HMGET', sweep, 'round_from', 'round_ms')
redis.call('ZREM', held, '')

local ended_in = {}
for at = first, #ARGV do
  local score = redis.call('ZSCORE', permits, ARGV[at])
  if score then
    ended_in[math.floor(tonumber(score) / LINE)] = true
    redis.call('ZREM', permits, ARGV[at])
  end
end
if redis.call('GET', pause_all) then
  return {0, redis.call('ZCARD', held), 1000}
end

-- Tasks from all of a line, of which one client's may be the first and the only ones that fail: at one distance from
-- each other, the first at a random place.
local function spread_over(least, greatest, room)
  local before = redis.call('ZCOUNT', held, '-inf', '(' .. least)
  local count, keys = redis.call('ZCOUNT', held, least, greatest), {}
  for at = 0, math.min(room, count) - 1 do
    local rank = string.format('%.0f', before + math.floor((at + random) * count / math.min(room, count)))
    keys[at + 1] = redis.call('ZRANGE', held, rank, rank)[1]
  end
  return keys
end

local admitted, wait_ms = 0, 1000
-- Returns an error of Redis, or nothing.
local function admit_from(number)
  local kept = redis.call('HGET', lines, string.format('%.0f', number))
  local used_ms, limit = string.match(kept or '', '^(%d+%.?%d*) (.*)$')
  -- A line that nobody knows, from foreign hands: whoever claims its tasks holds them anew.
  local concurrency, gap_ms, is_paused, is_probe, breaker = math.huge, 0, false, false, nil
  local is_spread = false
  local least, greatest = line_range(number)
  if limit then
    concurrency, gap_ms, is_paused = limit_of(limits, limit, default_concurrency, default_gap_ms, part, parts)
    breaker = breaker_of(breakers, limit)
    local is_only_broken, own_most, own_gap_ms = not is_paused, concurrency, gap_ms
    concurrency, gap_ms, is_paused, is_probe = beside(breaker, now, concurrency, gap_ms, is_paused, parts)
    is_spread = breaker and breaker.state ~= 'c'
    if is_probe and is_only_broken then
      -- What a breaker has held for long enough is attempted all the same, at a pace.
      local over = '(' .. line_score(number, now - held_most_ms)
      if redis.call('ZCOUNT', held, least, over) > 0 then
        concurrency = math.min(own_most, math.ceil(CLOSING_MOST / parts))
        gap_ms = math.max(own_gap_ms, OVERDUE_GAP_MS * parts)
        is_paused, is_probe, is_spread, greatest = false, false, false, over
      end
    end
  end
  local ended = redis.call('ZRANGEBYSCORE', permits, least, '(' .. line_score(number, now), 'LIMIT', 0, most)
  if ended[1] then
    redis.call('ZREM', permits, unpack(ended))
  end
  if is_paused then
    return
  end
  local room, rate, from_ms = most - admitted, math.huge, 0
  if concurrency < math.huge then
    room = math.min(room, concurrency - permits_held(permits, number, now, permit_ms))
  end
  if gap_ms > 0 then
    rate, from_ms = rate_left(now, tonumber(used_ms), gap_ms)
    room = math.min(room, rate)
  end
  if room > 0 then
    local keys = is_spread and spread_over(least, greatest, room)
      or redis.call('ZRANGEBYSCORE', held, least, greatest, 'LIMIT', 0, room)
    for _, key in ipairs(keys) do
      local failed = queue_from(held, queue, entries, key)
      if failed then
        return failed
      end
      if limit then
        redis.call('ZADD', permits, line_score(number, now + permit_ms), key)
      end
    end
    admitted, rate, from_ms = admitted + #keys, rate - #keys, from_ms + #keys * gap_ms
    if #keys > 0 and is_probe then
      probe(breakers, limit, breaker, now, gap_most_ms)
    end
    if #keys > 0 and gap_ms > 0 then
      keep_line(lines, number, from_ms, limit)
    end
  end
  if gap_ms > 0 and redis.call('ZRANGEBYSCORE', held, least, greatest, 'LIMIT', 0, 1)[1] then
    local next_ms = rate > 0 and 0 or from_ms + gap_ms - math.max(RATE_WINDOW_MS, gap_ms) - now
    wait_ms = math.min(wait_ms, math.max(round_ms, math.ceil(next_ms)))
  end
end

for number in pairs(ended_in) do
  local failed = admit_from(number)
  if failed then
    return failed
  end
end

-- Forgets lines that nothing stands in any more. Two workers may look at the same ones.
local function forget_some()
  local page = redis.pcall('HSCAN', lines, math.floor(now / round_ms) % LINES, 'COUNT', 10)
  if page.err then
    return  -- the user may not: what is left of a line takes some 60 bytes
  end
  for at = 1, #page[2], 2 do
    local number, used_ms = tonumber(page[2][at]), tonumber(string.match(page[2][at + 1], '^%S+') or 0)
    local least, greatest = line_range(number or 0)
    if not number or (used_ms or 0) < now and redis.call('ZCOUNT', held, least, greatest) == 0
      and redis.call('ZCOUNT', permits, '(' .. line_score(number, now), greatest) == 0 then
      redis.call('HDEL', lines, page[2][at])
    end
  end
end

local due_ms, from = number_of(state[2]) - now, number_of(state[1])
-- Further away than any round, so the clock was set back, or foreign hands set it: look now.
if due_ms > 0 and due_ms <= 1000 then
  return {admitted, redis.call('ZCARD', held), math.min(wait_ms, due_ms)}
end
local is_whole, looked_at = from == 0, 0
while admitted < most do
  local head = redis.call('ZRANGEBYSCORE', held, (line_range(from)), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if not head[1] then
    from = 0
    break
  end
  if looked_at == most_lines then
    break
  end
  local number = math.floor(tonumber(head[2]) / LINE)
  local failed = admit_from(number)
  if failed then
    return failed
  end
  from, looked_at = number + 1, looked_at + 1
end
forget_some()
-- The next step of a round comes at once.
if from ~= 0 then
  wait_ms = 0
elseif not is_whole then
  wait_ms = round_ms
end
redis.call('HSET', sweep, 'round_from', string.format('%.0f', from), 'round_ms', string.format('%.0f', now + wait_ms))
return {admitted, redis.call('ZCARD', held), wait_ms}
