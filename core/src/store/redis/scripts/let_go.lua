local function let_go() end

