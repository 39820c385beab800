-- alert: note what a look found, and say what is to be told: each thing at first at once, then with the count since, at
-- most once in a time, and when it is over.
-- KEYS   alerts
-- ARGV   turn (ms at which it was taken: watch) seen (up to when dead letters of each shard were looked at: watch)
--        is_whole# (0: not all shards were looked at, so no thing but what is counted can be over) every_ms# (between
--        two tellings of a thing) kept_most# (tellings that are not sent yet) named_most# (things that are remembered;
--        beyond them no host is)
-- each   name count# (how many more; 0 for one that is counted by nothing) detail
-- Returns for each telling that is not sent yet: its number, and '<began|again|over> <count> <since ms> <name>', with
--        the detail in the next line.
-- Bounds 64 rows; at most named_most things, kinds without hosts, and kept_most tellings, some five commands each.
-- Twice  the turn was noted already: only the answer is made.
-- Full   HDEL of nothing is the first write: it is noted all the same.
--- include foreign
--- names
local now = number_of(turn)
local found, fields = {}, redis.call('HGETALL', alerts)
local kept, things, tellings, number = {}, 0, 0, 0
for at = 1, #fields, 2 do
  local name, told = fields[at]:match('^is:(.*)$'), fields[at]:match('^tell:(%d+)$')
  if name then
    things, kept[name] = things + 1, fields[at + 1]
  elseif told then
    tellings = tellings + 1
  elseif fields[at] == 'number' then
    number = number_of(fields[at + 1])
  end
end
local is_noted = number_of(redis.call('HGET', alerts, 'noted')) >= now

local function tell(name, what, count, since, detail)
  if tellings >= kept_most then
    return false
  end
  number, tellings = number + 1, tellings + 1
  redis.call('HSET', alerts, 'number', string.format('%.0f', number), 'tell:' .. string.format('%.0f', number),
    string.format('%s %.0f %.0f %s\n%s', what, count, since, name, detail))
  return true
end

-- Of a thing is kept whether its receivers know that it is so, when they were told last, since when it is so, and how
-- many came since.
local function note(name, is_so, count, detail)
  local known, told_ms, since, more = (kept[name] or ''):match('^([01]) (%d+) (%d+) (%d+)$')
  known, told_ms, since, more = known == '1', number_of(told_ms or ''), number_of(since or ''), number_of(more or '')
  if told_ms > now then -- the clock was set back
    told_ms = 0
  end
  more = math.min(more + count, 1e12)
  local is_time = now - told_ms >= every_ms
  local what
  if known and is_so and more > 0 and is_time then
    what = 'again'
  elseif known and not is_so and (is_time or not name:find(':', 1, true)) then
    what = more > 0 and 'again' or 'over'
  elseif not known and is_time and (is_so or more > 0) then
    what = 'began'
  end
  if what == 'began' then
    since = now
  end
  if what and tell(name, what, more, since, detail) then
    known, told_ms, more = what ~= 'over', now, 0
  elseif not known and not is_so and more == 0 and is_time then
    redis.call('HDEL', alerts, 'is:' .. name)
    return
  end
  redis.call('HSET', alerts, 'is:' .. name,
    string.format('%d %.0f %.0f %.0f', known and 1 or 0, told_ms, since, more))
end

redis.call('HDEL', alerts, '')
if not is_noted then
  redis.call('HSET', alerts, 'noted', turn, 'seen', seen, 'looks',
    string.format('%.0f', number_of(redis.call('HGET', alerts, 'looks')) + 1))
  -- Only hosts (`died:<host>`) may be any number: those beyond the most are told as `other`, so that nobody's hosts are
  -- in the way of what else is wrong.
  local others = {}
  for at = first, #ARGV, width do
    --- row
    local kind = name:match('^([^:]*:)')
    if kind and (name == kind .. 'other' or (not kept[name] and things >= named_most)) then
      others[kind .. 'other'] = (others[kind .. 'other'] or 0) + count
    else
      things, found[name] = things + (kept[name] and 0 or 1), true
      note(name, true, count, detail)
    end
  end
  for name, count in pairs(others) do
    found[name] = true
    note(name, true, count, '')
  end
  for name in pairs(kept) do
    if not found[name] and (is_whole == 1 or name:find(':', 1, true)) then
      note(name, false, 0, '')
    end
  end
end

local answer = {}
fields = redis.call('HGETALL', alerts)
for at = 1, #fields, 2 do
  local told = fields[at]:match('^tell:(%d+)$')
  if told then
    answer[#answer + 1] = told
    answer[#answer + 1] = fields[at + 1]
  end
end
return answer
