-- Lines of tokens: what is due, and finds the queue full, waits in one of its token, and these take turns. They stand
-- in `held`, below zero: so what takes a task out of a limit's line takes it out of these, too. Each has a range of
-- scores, by the first digits of the token's id, in which its tasks are counted on. Two tokens whose ids begin alike
-- share one; API_AUTH has the first.
local COUNTS, TURNS, ID_DIGITS = 2 ^ 29, 2 ^ 24, 6

-- Behind the last count, which takes 500 million tasks without a pause, all have the same.
local function turn_score(line, count)
  return string.format('%.0f', (line - TURNS) * COUNTS + math.min(count, COUNTS - 1))
end

local function turn_of(score)
  return math.floor(tonumber(score) / COUNTS) + TURNS
end

local function has_lines(held)
  local head = redis.pcall('ZRANGE', held, 0, 0, 'WITHSCORES')
  return not head.err and head[2] ~= nil and tonumber(head[2]) < 0
end

-- How many entries of the queue nobody has claimed, and how many consumers have claimed others. Without the group
-- nobody has claimed any.
local function unclaimed(queue, group)
  local pending = redis.pcall('XPENDING', queue, group)
  local claimed = pending.err and 0 or pending[1]
  return math.max(0, redis.call('XLEN', queue) - claimed), claimed > 0 and #pending[4] or 0
end
