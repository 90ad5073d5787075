# A guest that never leaves real mode. It counts, in the 32 bits at the physical
# address 0x7000 and, as four hexadecimal digits, on the first serial port. So
# what a VM does can be seen from outside, with every accelerator, also where no
# stock kernel boots.
#
#   as --32 -o guest.o guest.S && ld -m elf_i386 -Ttext 0 --oformat binary -o guest.bin guest.o
#
# The header is that of the Linux boot protocol (Documentation/arch/x86/boot.rst),
# so that QEMU takes it as a kernel; guest.rs has the same bytes.
.code16
.globl _start
_start:
 .fill 0x1f1,1,0
 .byte 1                # setup_sects
 .word 0                # root_flags
 .long 1                # syssize, in units of 16 bytes
 .word 0                # ram_size
 .word 0                # vid_mode
 .word 0                # root_dev
 .word 0xaa55           # boot_flag
 .byte 0xeb, start_of_setup-1f
1: .ascii "HdrS"
 .word 0x0206           # version
 .long 0                # realmode_swtch
 .word 0                # start_sys_seg
 .word 0                # kernel_version
 .byte 0                # type_of_loader
 .byte 1                # loadflags: LOADED_HIGH
 .word 0x8000           # setup_move_size
 .long 0x100000         # code32_start
 .long 0,0              # ramdisk_image, ramdisk_size
 .long 0                # bootsect_kludge
 .word 0                # heap_end_ptr
 .word 0                # ext_loader
 .long 0                # cmd_line_ptr
 .long 0x7fffffff       # initrd_addr_max
 .long 0                # kernel_alignment
 .byte 0                # relocatable_kernel
 .byte 0                # min_alignment
 .word 0                # xloadflags
 .long 255              # cmdline_size
start_of_setup:
 xorw %ax,%ax
 movw %ax,%es
 xorl %ebx,%ebx
count:
 incl %ebx
 movl %ebx,%es:0x7000
 movw $4,%cx
 movw %bx,%dx
digit:
 rolw $4,%dx
 movb %dl,%al
 andb $15,%al
 cmpb $10,%al
 jb print
 addb $39,%al           # from the digits to the letters
print:
 addb $48,%al
 pushw %dx
 movw $0x3f8,%dx
 outb %al,%dx
 popw %dx
 loop digit
 movb $10,%al
 movw $0x3f8,%dx
 outb %al,%dx
 movl $20000,%ecx
wait:
 decl %ecx
 jnz wait
 jmp count
 .org 1024
 .fill 512,1,0x90       # the protected-mode kernel, which never runs
