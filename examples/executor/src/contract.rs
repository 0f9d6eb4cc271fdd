//! The contract in its machine: [`Compiled`]. Its host functions know [`Host`] and nothing of transports.

use std::sync::Arc;

use wasmtime::{Caller, Config, Engine, Error, Extern, Linker, Memory, Module, Result, Store};

use crate::host::Host;

/// The contract, compiled, and what it may import.
pub struct Compiled {
    module: Module,
    linker: Linker<Arc<Host>>,
}

impl Compiled {
    pub fn new() -> Result<Self> {
        let mut config = Config::new();
        // Contracts run on fibers with small stacks, and so do the calls that they make.
        config.max_wasm_stack(64 << 10).async_stack_size(256 << 10);
        let engine = Engine::new(&config)?;
        let module = Module::new(&engine, include_str!("contract.wat"))?;
        let mut linker = Linker::new(&engine);
        linker.func_wrap("host", "get_calldata", get_calldata)?;
        linker.func_wrap("host", "storage_read", storage_read)?;
        linker.func_wrap("host", "storage_write", storage_write)?;
        Ok(Self { module, linker })
    }

    /// Runs it to its end; gives what it returns.
    pub async fn run(&self, host: Arc<Host>) -> Result<Vec<u8>> {
        let mut store = Store::new(self.module.engine(), host);
        let instance = self.linker.instantiate_async(&mut store, &self.module).await?;
        let main = instance.get_typed_func::<(), (u32, u32)>(&mut store, "main")?;
        let (at, length) = main.call_async(&mut store, ()).await?;
        let memory = instance.get_memory(&mut store, "memory").ok_or_else(|| Error::msg("it exports no memory"))?;
        let returned = memory.data(&store).get(range(at, length)).ok_or_else(|| Error::msg("its result is nowhere"))?;
        Ok(returned.to_vec())
    }
}

/// Copies calldata to `at`, at most `room` bytes, and says how many there are.
fn get_calldata(mut caller: Caller<'_, Arc<Host>>, at: u32, room: u32) -> Result<u32> {
    let calldata = caller.data().get_calldata()?;
    let (memory, _) = parts(&mut caller)?;
    let fits = calldata.len().min(room as usize);
    bytes(memory, at, fits as u32)?.copy_from_slice(&calldata[..fits]);
    Ok(calldata.len() as u32)
}

fn storage_read(mut caller: Caller<'_, Arc<Host>>, slot: u32, index: u32, at: u32, length: u32) -> Result<()> {
    let (memory, host) = parts(&mut caller)?;
    let slot = slot_id(memory, slot)?;
    Ok(host.storage_read(&slot, index, bytes(memory, at, length)?)?)
}

fn storage_write(mut caller: Caller<'_, Arc<Host>>, slot: u32, index: u32, at: u32, length: u32) -> Result<()> {
    let (memory, host) = parts(&mut caller)?;
    let slot = slot_id(memory, slot)?;
    Ok(host.storage_write(&slot, index, bytes(memory, at, length)?)?)
}

/// The contract's memory and the host.
fn parts<'c>(caller: &'c mut Caller<'_, Arc<Host>>) -> Result<(&'c mut [u8], &'c mut Arc<Host>)> {
    let memory = caller.get_export("memory").and_then(Extern::into_memory);
    let memory: Memory = memory.ok_or_else(|| Error::msg("it exports no memory"))?;
    Ok(memory.data_and_store_mut(caller))
}

fn bytes(memory: &mut [u8], at: u32, length: u32) -> Result<&mut [u8]> {
    memory.get_mut(range(at, length)).ok_or_else(|| Error::msg("an address beyond its memory"))
}

fn slot_id(memory: &mut [u8], at: u32) -> Result<[u8; 32]> {
    Ok((&*bytes(memory, at, 32)?).try_into().expect("32 bytes"))
}

fn range(at: u32, length: u32) -> std::ops::Range<usize> {
    at as usize..at as usize + length as usize
}
