// A tile that two blocks of a cluster load for each other. llvm_share.ptx is what LLVM 22 made of it: convert-nvvm-to-llvm,
// convert-to-llvm, reconcile-unrealized-casts, gpu-module-to-binary{format=isa}.
module attributes {gpu.container_module} {
gpu.module @k [#nvvm.target<chip="sm_90a", features="+ptx83", O=3>] {
  llvm.mlir.global external @tile() {addr_space = 3 : i32, alignment = 1024 : i64} : !llvm.array<0 x i8>
  llvm.mlir.global internal @full() {addr_space = 3 : i32, alignment = 8 : i64} : !llvm.array<1 x i64>
  llvm.func @share(%from: !llvm.ptr {llvm.byval = !llvm.array<128 x i8>, llvm.align = 64 : i64, nvvm.grid_constant},
                   %to: !llvm.ptr {llvm.byval = !llvm.array<128 x i8>, llvm.align = 64 : i64, nvvm.grid_constant}, %out: !llvm.ptr<1>)
    attributes {nvvm.kernel, nvvm.reqntid = array<i32: 32, 1, 1>, nvvm.cluster_dim = array<i32: 2, 1, 1>} {
    %tile = llvm.mlir.addressof @tile : !llvm.ptr<3>
    %full = llvm.mlir.addressof @full : !llvm.ptr<3>
    %zero = llvm.mlir.constant(0 : i32) : i32
    %one = llvm.mlir.constant(1 : i32) : i32
    %half = llvm.mlir.constant(2048 : i32) : i32
    %bytes = llvm.mlir.constant(4096 : i32) : i32
    %ticks = llvm.mlir.constant(10000000 : i32) : i32
    %rows = llvm.mlir.constant(8 : i32) : i32
    %both = llvm.mlir.constant(3 : i16) : i16
    %rank = nvvm.read.ptx.sreg.cluster.ctarank : i32
    %block = nvvm.read.ptx.sreg.ctaid.x : i32
    nvvm.prefetch tensormap, %from : !llvm.ptr
    %leader = nvvm.elect.sync -> i1
    llvm.cond_br %leader, ^start, ^meet
  ^start:
    nvvm.mbarrier.init %full, %one : !llvm.ptr<3>, i32
    nvvm.fence.mbarrier.init
    nvvm.mbarrier.arrive.expect_tx %full, %bytes : !llvm.ptr<3>, i32
    llvm.br ^meet
  ^meet:
    nvvm.cluster.arrive {aligned}
    nvvm.cluster.wait {aligned}
    llvm.cond_br %leader, ^load, ^wait
  ^load:
    %offset = llvm.mul %rank, %half : i32
    %place = llvm.getelementptr %tile[%offset] : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>, i8
    %shared = llvm.addrspacecast %place : !llvm.ptr<3> to !llvm.ptr<7>
    %row = llvm.mul %block, %rows : i32
    nvvm.cp.async.bulk.tensor.shared.cluster.global %shared, %from, %full, box[%zero, %row] multicast_mask = %both : !llvm.ptr<7>, !llvm.ptr
    llvm.br ^wait
  ^wait:
    nvvm.mbarrier.try_wait.parity %full, %zero, %ticks : !llvm.ptr<3>, i32, i32
    %other = llvm.xor %rank, %one : i32
    %lane = nvvm.read.ptx.sreg.tid.x : i32
    %mine = llvm.getelementptr %tile[%lane] : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>, i32
    %theirs = nvvm.mapa %mine, %other : !llvm.ptr<3> -> !llvm.ptr<7>
    %value = llvm.load %theirs : !llvm.ptr<7> -> i32
    %lanes = llvm.mlir.constant(32 : i32) : i32
    %first = llvm.mul %block, %lanes : i32
    %index = llvm.add %first, %lane : i32
    %at = llvm.getelementptr %out[%index] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, i32
    llvm.store %value, %at : i32, !llvm.ptr<1>
    llvm.cond_br %leader, ^store, ^end
  ^store:
    %column = llvm.mul %block, %rows : i32
    %down = llvm.add %column, %column : i32
    nvvm.cp.async.bulk.tensor.global.shared.cta %to, %tile, box[%zero, %down] : !llvm.ptr, !llvm.ptr<3>
    nvvm.cp.async.bulk.commit.group
    nvvm.cp.async.bulk.wait_group 0
    llvm.br ^end
  ^end:
    nvvm.cluster.arrive {aligned}
    nvvm.cluster.wait {aligned}
    llvm.return
  }
}}
