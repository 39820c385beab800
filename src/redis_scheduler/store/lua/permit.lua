-- permit: ask for claims whether they may begin, by the limit that each is under; or say of those that have begun that
-- they go on. What was admitted has its permit. What stands in the limit's line goes first.
-- KEYS   queue held lines permits limits breakers sweep
-- ARGV   permit_ms# (that one lasts without a renewal) default_concurrency# (0: none) default_gap_ms# (from one attempt
--        to the next; 0: no rate) part# parts# (of each limit, that this shard has) gap_most_ms# (between probes
--        of a host) offered_salt (of the hash of limits, if none is kept)
-- each   key limit has_begun ('1': it goes on) more# (that may begin soon, under the limit of a first such row)
-- Returns per task 0 it must be held, 1 it may begin, 2 it may begin with a permit, which is to be given back; 2 + n it
--        may begin, and so may n more without asking: of a rate alone, while nothing is held.
-- Bounds 200 tasks a call, some four commands each, and some five for each limit.
-- Twice  what has a permit keeps it; of a limit without concurrency the rate is used twice: fewer begin.
-- Full   XDEL of nothing is the first write.
--- include clock ours lines salt kept_line limits breakers
--- names
local now = now_ms(math.floor)
-- Foreign keys in their places fail here, before any write.
refuse_foreign({lines, limits, breakers, sweep}, {held, permits})
redis.call('XDEL', queue, '0-0')

local found, salt = {}, salt_of(sweep, offered_salt)
local function state_of(limit)
  local state = {}
  local most, gap_ms, is_paused = limit_of(limits, limit, default_concurrency, default_gap_ms, part, parts)
  state.breaker = breaker_of(breakers, limit)
  state.most, state.gap_ms, state.is_paused, state.is_probe = beside(state.breaker, now, most, gap_ms, is_paused,
    parts)
  state.number, state.used_ms = line_of(lines, limit, salt)
  if not state.number then
    return state
  end
  local least, greatest = line_range(state.number)
  state.is_closed = state.is_paused or redis.call('ZCOUNT', held, least, greatest) > 0
  state.permits = state.most
  if state.most < math.huge then
    state.permits = state.most - permits_held(permits, state.number, now, permit_ms)
  end
  state.rate = math.huge
  if state.gap_ms > 0 then
    state.rate, state.from_ms = rate_left(now, state.used_ms, state.gap_ms)
  end
  return state
end

local answer = {}
for at = first, #ARGV, width do
  --- row
  local state = found[limit] or state_of(limit)
  found[limit] = state
  local may_begin = has_begun == '1'
  if not state.number then
    answer[#answer + 1] = may_begin and 1 or 0
  else
    local score = tonumber(redis.call('ZSCORE', permits, key) or -1)
    local has_permit = math.floor(score / LINE) == state.number and score >= tonumber(line_score(state.number, now))
    if not (may_begin or has_permit) and not state.is_closed and state.permits > 0 and state.rate > 0 then
      may_begin = true
      state.permits, state.rate, state.uses = state.permits - 1, state.rate - 1, (state.uses or 0) + 1
    end
    may_begin = may_begin or has_permit
    local keeps = may_begin and state.most < math.huge
    if keeps then
      redis.call('ZADD', permits, line_score(state.number, now + permit_ms), key)
      state.is_used = true
    elseif score >= 0 then
      redis.call('ZREM', permits, key)
    end
    answer[#answer + 1] = keeps and 2 or may_begin and 1 or 0
    if may_begin and not keeps and more > 0 and not state.more then
      state.more, state.at = more, #answer
    end
  end
end
for limit, state in pairs(found) do
  if state.more and state.gap_ms > 0 and not state.is_closed and state.rate > 0 then
    local given = math.min(state.more, state.rate)
    state.uses, answer[state.at] = (state.uses or 0) + given, 2 + given
  end
  if state.uses and state.is_probe then
    probe(breakers, limit, state.breaker, now, gap_most_ms)
  end
  if state.uses and state.gap_ms > 0 then
    keep_line(lines, state.number, state.from_ms + state.uses * state.gap_ms, limit)
  elseif state.is_used and not state.used_ms then
    keep_line(lines, state.number, 0, limit)
  end
end
return answer
