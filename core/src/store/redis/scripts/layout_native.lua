-- The lock as a text.
local function load()
  local text = redis.call('GET', L)
  if not text then return true end
  stood = true
  -- After an empty line stands a name that the key does not show.
  local names = string.find(text, '\n\n', 1, true)
  for line in string.gmatch(names and string.sub(text, 1, names - 1) or text, '[^\n]+') do
    local r = {string.match(line, '^(%x+)|(%d+)|([xsp])|(%d+)|(%d+)|(%d+)|(%d+)|(%d*)|(%d*)|([01])|(.*)$')}
    if not r[TOKEN] then return false end
    if r[UNTIL] == '' then
      local ends = now + redis.call('PTTL', L)
      r[SINCE], r[UNTIL] = whole(ends - r[TTL]), whole(ends)
    end
    if tonumber(r[UNTIL]) > now then
      held[r[TOKEN]] = r
      count = count + 1
    else
      changed = true
    end
  end
  return true
end

-- The lock lives until its last holder's lease ends.
local function save()
  if not changed then return end
  changed = false
  if count == 0 then
    if stood then redis.call('DEL', L) end
    stood = false
    return
  end
  local lines, last = {}, 0
  for _, r in pairs(held) do
    lines[#lines + 1] = table.concat(r, '|')
    last = math.max(last, tonumber(r[UNTIL]))
  end
  if string.sub(L, -#NAME) ~= NAME then lines[#lines + 1] = '\n' .. NAME end
  stood = true
  redis.call('SET', L, table.concat(lines, '\n'), 'PX', whole(last - now))
end

