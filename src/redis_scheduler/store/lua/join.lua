-- join: tell which deployment this Redis belongs to: the id that it keeps; if it keeps none, it keeps the one offered.
-- And keep for a while on what the process listens, and tell on what all do; that it lives, if it is a worker; and what
-- it says of itself. Tell every number of shards there has been, with the ms from which it holds. The first process
-- begins with its own; a later one announces another number; other shards than the first keep a copy, and, before the
-- first one is told of another number, that it is coming. And note for how long the oldest task has been due, in which
-- minute: where nothing is delivered, nobody else does.
-- KEYS   instance listeners workers processes shards tasks series_listed (with a new id the index of series has them
--        all, if there are no tasks, or Redis has lost its data since this process joined) counters (where it has, in
--        emptied_ms when that was seen) due queue held failures oldest
-- ARGV   number# (of shards, with which the first process begins; 0: this is no first shard) copied (what the first one
--        keeps, 'number ms,number ms'; '' for nothing) announced (another number, which is taken once the newest holds;
--        '' for none) since_ms# (from which the newest holds that the process knows: one that is newer was first)
--        announced_ms# (from now, from when on it holds) coming_ms# (added to `since_ms` in other shards, until they
--        are brought what the first one says of it then) offered (an id: 32 hexadecimal digits) knew# (1: this process
--        joined before) consumer (the worker's name; '' for none) kept_ms# (for which a worker is remembered)
--        workers_most# (to remember) process (its name) said (of itself; '' for nothing) processes_most# (to remember)
--        ttl_ms# (of that, and of what follows) most# (to keep) group minutes_most# (to note) address... (that it
--        listens on, as listeners has them)
-- Returns the id, 'ms,number ms,number ms,…' ('' where there was never more than one shard), and behind it what all
--        processes listen on. What foreign hands put there is an error, and stays.
-- Bounds 16 addresses a call, and the 256 that are kept; one worker, and 300 that are forgotten; 15 numbers of shards;
--        one process with 32 kB, and a look at ten others; the heads of `due`, of the queue and of 16 lines of
--        tokens, and each 60th minute all that are noted.
-- Twice  what is kept is the answer; an address is kept a little longer, and a worker lives a moment later. What is
--        announced already stays as it is.
-- Full   UNLINK or ZREM of nothing is the first write: so a full Redis without an id takes one, too.
--- include clock drop instance turns oldest foreign
--- names
local now, kept = now_ms(math.floor), redis.call('GET', instance)
if kept and not is_id(kept) then
  return redis.error_reply('WRONGTYPE ' .. instance .. ' holds no id of a deployment')
end
-- A foreign key in its place fails here, before any write.
redis.call('ZCARD', listeners)
redis.call('ZCARD', workers)
local has_numbers = redis.call('ZCARD', shards) > 0
local known = redis.call('HLEN', processes)

-- A number of shards, and from when on it holds.
local function keep_number(one, from_ms)
  redis.call('ZREM', shards, '')
  redis.call('ZADD', shards, from_ms, one)
  has_numbers = true
end

local function from_of(one)
  return number_of(redis.call('ZSCORE', shards, one))
end

if not kept then
  redis.call('UNLINK', instance)
  redis.call('SET', instance, offered)
  local is_lost = knew == 1 and known == 0 and redis.call('EXISTS', listeners, workers) == 0
  if is_lost or redis.call('EXISTS', tasks) == 0 then
    redis.call('SET', series_listed, '1', 'NX') -- what foreign hands put there stays
  end
  if is_lost then
    redis.pcall('HSET', counters, 'emptied_ms', string.format('%.0f', now))
  end
  if number > 1 and not has_numbers then
    keep_number(string.format('%.0f', number), 0)
  end
end
-- One at a time: with two ahead, the one that holds could not be told any more where it is announced anew.
local newest = redis.call('ZRANGE', shards, -1, -1, 'WITHSCORES')
local is_next = number > 0 and announced ~= '' and (newest[1] or '1') ~= announced
if is_next and tonumber(newest[2] or '0') <= math.min(now, since_ms) then
  if not has_numbers then
    keep_number('1', 0)
  end
  keep_number(announced, string.format('%.0f', now + announced_ms))
end

for one, from_ms in string.gmatch(copied, '(%d+) (%d+)') do
  -- Never an earlier time: a process may bring what it was told long ago.
  if not redis.call('ZSCORE', shards, one) or tonumber(from_ms) > from_of(one) % coming_ms then
    keep_number(one, from_ms)
  end
end
if announced ~= '' and number == 0 and from_of(announced) <= since_ms then
  keep_number(announced, string.format('%.0f', coming_ms + since_ms))
end
if #ARGV - first >= 0 then
  redis.call('ZREM', listeners, '')
  for at = first, #ARGV do
    redis.call('ZADD', listeners, string.format('%.0f', now + ttl_ms), ARGV[at])
  end
  drop(listeners, redis.call('ZRANGEBYSCORE', listeners, '-inf', string.format('%.0f', now), 'LIMIT', 0, 100))
  drop_surplus(listeners, most)
end
if consumer ~= '' then
  redis.call('ZREM', workers, '')
  redis.call('ZADD', workers, string.format('%.0f', now), consumer)
  drop(workers, redis.call('ZRANGEBYSCORE', workers, '-inf', string.format('%.0f', now - kept_ms), 'LIMIT', 0, 100))
  -- A clock that was set back must not keep a worker that is gone.
  drop(workers, redis.call('ZRANGEBYSCORE', workers, string.format('%.0f', now + kept_ms), '+inf', 'LIMIT', 0, 100))
  drop_surplus(workers, workers_most)
end

local function note_oldest()
  local late = oldest_due(due, queue, held, tasks, failures, redis.call('XPENDING', queue, group)[3], now)
  local minute = math.floor(now / 60000)
  if late < 1000 or late <= number_of(redis.call('HGET', oldest, minute)) then
    return
  end
  redis.call('HDEL', oldest, '')
  redis.call('HSET', oldest, minute, late)
  redis.call('PEXPIRE', oldest, minutes_most * 60000)
  if redis.call('HLEN', oldest) > minutes_most + 60 then
    local noted = redis.call('HGETALL', oldest)
    for at = 1, #noted, 2 do
      if number_of(noted[at]) <= minute - minutes_most then
        redis.call('HDEL', oldest, noted[at])
      end
    end
  end
end
-- Foreign keys, and a group that is lost, keep nobody from joining.
pcall(note_oldest)
if said ~= '' then
  redis.call('HDEL', processes, '')
  if known < processes_most or redis.call('HEXISTS', processes, process) == 1 then
    redis.call('HSET', processes, process, string.format('%.0f ', now) .. said)
  end
  -- Forgets those that are gone, and what foreign hands wrote.
  local page = redis.pcall('HSCAN', processes, math.floor(now / 100) % 65536, 'COUNT', 10)
  for at = 1, page.err and 0 or #page[2], 2 do
    local told_ms = tonumber(string.match(page[2][at + 1], '^(%d+) '))
    if not told_ms or math.abs(now - told_ms) > ttl_ms then
      redis.call('HDEL', processes, page[2][at])
    end
  end
end
local all = redis.call('ZRANGEBYSCORE', listeners, string.format('(%.0f', now), '+inf', 'LIMIT', 0, most)
local told = ''
if has_numbers then
  told = string.format('%.0f', now)
  local numbers = redis.call('ZRANGE', shards, 0, 14, 'WITHSCORES')
  for at = 1, #numbers, 2 do
    told = told .. ',' .. numbers[at] .. ' ' .. numbers[at + 1]
  end
end
return {kept or offered, told, unpack(all)}
