//! A child that is stepped through one operation, instruction by instruction.

use crate::process::fork;

/// What a traced child did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// One instruction.
    Stepped,
    /// It came to a mark.
    Marked,
    /// It ended, with this wait status.
    Ended(i32),
}

/// A stopped child. Killed when dropped.
#[derive(Debug)]
pub struct Traced {
    pid: libc::pid_t,
    ended: bool,
}

/// Says to the tracer, in the child, that the operation begins or ends here.
pub fn mark() {
    // SAFETY: stops this process, which its tracer lets go on.
    unsafe { libc::raise(libc::SIGSTOP) };
}

/// Keeps this process, and the children that it makes, on one processor: a step is then no more than
/// two changes of context.
pub fn stay_on_one_processor() {
    // SAFETY: a set of processors, all zero first, and this thread's own.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(libc::sched_getcpu().max(0) as usize, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
    }
}

impl Traced {
    /// Starts a child; stopped at the first mark that `work` sets. Call it from a program with one
    /// thread.
    pub fn start(work: impl FnOnce() -> i32) -> Self {
        let pid = fork(|| {
            // SAFETY: asks to be traced by the parent.
            unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) };
            work()
        });
        let mut child = Traced { pid, ended: false };
        let first = child.wait();
        assert!(
            first == Step::Marked,
            "the child did not come to its mark: {first:?}"
        );
        child
    }

    fn resume(&self, how: libc::c_uint, signal: libc::c_int) {
        // SAFETY: a stopped child of ours.
        unsafe { libc::ptrace(how, self.pid, 0, signal) };
    }

    fn wait(&mut self) -> Step {
        loop {
            let status = crate::process::wait(self.pid);
            if !libc::WIFSTOPPED(status) {
                self.ended = true;
                return Step::Ended(status);
            }
            match libc::WSTOPSIG(status) {
                libc::SIGTRAP => return Step::Stepped,
                libc::SIGSTOP => return Step::Marked,
                other => self.resume(libc::PTRACE_SINGLESTEP, other),
            }
        }
    }

    /// Lets it run one instruction; a system call is one, however long it takes.
    pub fn step(&mut self) -> Step {
        self.resume(libc::PTRACE_SINGLESTEP, 0);
        self.wait()
    }

    /// Lets it run to its next mark or its end.
    pub fn run(&mut self) -> Step {
        self.resume(libc::PTRACE_CONT, 0);
        self.wait()
    }

    fn registers(&self) -> libc::user_regs_struct {
        // SAFETY: plain numbers, written by the kernel.
        unsafe {
            let mut registers: libc::user_regs_struct = std::mem::zeroed();
            libc::ptrace(libc::PTRACE_GETREGS, self.pid, 0, &raw mut registers);
            registers
        }
    }

    /// Where the next instruction is.
    pub fn at(&self) -> u64 {
        self.registers().rip
    }

    /// Whether the next instruction is the system call of this number.
    pub fn is_about_to_call(&self, number: i64) -> bool {
        const SYSCALL: libc::c_long = 0x050f;
        let registers = self.registers();
        registers.rax as i64 == number && {
            // SAFETY: reads the text of a stopped child.
            let text = unsafe { libc::ptrace(libc::PTRACE_PEEKTEXT, self.pid, registers.rip, 0) };
            text & 0xffff == SYSCALL
        }
    }

    /// Lets it run until it comes to this instruction for the `times`th time (not counting where it
    /// stands now), or to a mark, or its end.
    pub fn run_to(&mut self, instruction: u64, times: u32) -> Step {
        self.watch(instruction, 1);
        let mut last = Step::Stepped;
        for _ in 0..times {
            last = self.run();
            if last != Step::Stepped {
                break;
            }
        }
        if !self.ended {
            self.watch(0, 0);
        }
        last
    }

    /// Sets the first debug register, and the control register.
    fn watch(&self, address: u64, control: u64) {
        let at = |register: usize| {
            std::mem::offset_of!(libc::user, u_debugreg) + register * size_of::<u64>()
        };
        // SAFETY: registers of a stopped child of ours.
        unsafe {
            libc::ptrace(libc::PTRACE_POKEUSER, self.pid, at(0), address);
            libc::ptrace(libc::PTRACE_POKEUSER, self.pid, at(7), control);
        }
    }

    /// Kills it where it is.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if !self.ended {
            crate::process::signal(self.pid, libc::SIGKILL);
            while !matches!(self.wait(), Step::Ended(_)) {}
        }
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        self.end();
    }
}
