// The GPU device (virtio 1.4, 5.7), without blobs. Shared with tests: numbers only.

export const VIRTIO_ID_GPU = 16;

/** Feature bits. */
export const VIRTIO_GPU_F_VIRGL = 0;
export const VIRTIO_GPU_F_EDID = 1;

/** struct virtio_gpu_config: events_read, events_clear, num_scanouts, num_capsets, blob_alignment, u32 each. */
export const GPU_CONFIG_SIZE = 20;
export const GPU_CONFIG_EVENTS_READ = 0;
export const GPU_CONFIG_EVENTS_CLEAR = 4;
export const GPU_CONFIG_NUM_SCANOUTS = 8;
export const GPU_CONFIG_NUM_CAPSETS = 12;

export const VIRTIO_GPU_EVENT_DISPLAY = 1;

/** enum virtio_gpu_ctrl_type. */
export const VIRTIO_GPU_CMD_GET_DISPLAY_INFO = 0x0100;
export const VIRTIO_GPU_CMD_RESOURCE_CREATE_2D = 0x0101;
export const VIRTIO_GPU_CMD_RESOURCE_UNREF = 0x0102;
export const VIRTIO_GPU_CMD_SET_SCANOUT = 0x0103;
export const VIRTIO_GPU_CMD_RESOURCE_FLUSH = 0x0104;
export const VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D = 0x0105;
export const VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING = 0x0106;
export const VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING = 0x0107;
export const VIRTIO_GPU_CMD_GET_CAPSET_INFO = 0x0108;
export const VIRTIO_GPU_CMD_GET_CAPSET = 0x0109;
export const VIRTIO_GPU_CMD_GET_EDID = 0x010a;
export const VIRTIO_GPU_CMD_CTX_CREATE = 0x0200;
export const VIRTIO_GPU_CMD_CTX_DESTROY = 0x0201;
export const VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE = 0x0202;
export const VIRTIO_GPU_CMD_CTX_DETACH_RESOURCE = 0x0203;
export const VIRTIO_GPU_CMD_RESOURCE_CREATE_3D = 0x0204;
export const VIRTIO_GPU_CMD_TRANSFER_TO_HOST_3D = 0x0205;
export const VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D = 0x0206;
export const VIRTIO_GPU_CMD_SUBMIT_3D = 0x0207;
export const VIRTIO_GPU_CMD_UPDATE_CURSOR = 0x0300;
export const VIRTIO_GPU_CMD_MOVE_CURSOR = 0x0301;
export const VIRTIO_GPU_RESP_OK_NODATA = 0x1100;
export const VIRTIO_GPU_RESP_OK_DISPLAY_INFO = 0x1101;
export const VIRTIO_GPU_RESP_OK_CAPSET_INFO = 0x1102;
export const VIRTIO_GPU_RESP_OK_CAPSET = 0x1103;
export const VIRTIO_GPU_RESP_OK_EDID = 0x1104;
export const VIRTIO_GPU_RESP_ERR_UNSPEC = 0x1200;
export const VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY = 0x1201;
export const VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID = 0x1202;
export const VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID = 0x1203;
export const VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID = 0x1204;
export const VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER = 0x1205;

/** Of virtio_gpu_ctrl_hdr.flags. */
export const VIRTIO_GPU_FLAG_FENCE = 1;

/** struct virtio_gpu_ctrl_hdr: type u32, flags u32, fence_id u64, ctx_id u32, ring_idx u8, padding u8[3]. */
export const GPU_HEADER_SIZE = 24;

export const VIRTIO_GPU_MAX_SCANOUTS = 16;
/** struct virtio_gpu_display_one: r (x, y, width, height u32), enabled u32, flags u32. */
export const GPU_DISPLAY_ONE_SIZE = 24;
export const GPU_DISPLAY_INFO_SIZE = 408; // GPU_HEADER_SIZE + VIRTIO_GPU_MAX_SCANOUTS * GPU_DISPLAY_ONE_SIZE

/** struct virtio_gpu_resp_edid: hdr, size u32, padding u32, edid u8[1024]. */
export const GPU_EDID_MAX = 1024;
export const GPU_EDID_SIZE = 1056; // GPU_HEADER_SIZE + 8 + GPU_EDID_MAX

/** struct virtio_gpu_mem_entry: addr u64, length u32, padding u32. */
export const GPU_MEM_ENTRY_SIZE = 16;

/** enum virtio_gpu_formats: 4 bytes a pixel, named in the order in which they lie in memory. */
export const VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM = 1;
export const VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM = 2;
export const VIRTIO_GPU_FORMAT_A8R8G8B8_UNORM = 3;
export const VIRTIO_GPU_FORMAT_X8R8G8B8_UNORM = 4;
export const VIRTIO_GPU_FORMAT_R8G8B8A8_UNORM = 67;
export const VIRTIO_GPU_FORMAT_X8B8G8R8_UNORM = 68;
export const VIRTIO_GPU_FORMAT_A8B8G8R8_UNORM = 121;
export const VIRTIO_GPU_FORMAT_R8G8B8X8_UNORM = 134;
export const GPU_PIXEL_SIZE = 4;

/** Sets of capabilities (5.7.6.8). */
export const VIRTIO_GPU_CAPSET_VIRGL = 1;
export const VIRTIO_GPU_CAPSET_VIRGL2 = 2;

/** struct virtio_gpu_ctx_create after the header: nlen u32, context_init u32, debug_name u8[64]. */
export const GPU_CONTEXT_NAME_MAX = 64;

/** "it must be 64x64 in size" (5.7.6.2). */
export const GPU_CURSOR_SIDE = 64;
