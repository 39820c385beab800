-- Returns a function that says whether what is due now has to wait for its turn, given the last of the indexes that it
-- is listed in, and its name: a token's task has to, once others wait, or so many more than there are do not fit into
-- the queue. Redis is asked once a call, and only for a token's. To be included after `types` and `turns`.
local function crowd(held, queue, group, queued_most, more)
  local is_crowded
  return function(_, name)
    if is_token(name) and is_crowded == nil then
      is_crowded = has_lines(held) or (unclaimed(queue, group)) + more > queued_most
    end
    return is_token(name) and is_crowded
  end
end
